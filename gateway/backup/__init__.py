"""Backups: all that a gateway is, copied while it serves into a directory, and from there into a new data directory.

TARGET/                             0700: whoever reads it has every secret of the gateway
├─ lock                             one backup at a time
├─ incoming/                        what is being made; cleared by the next backup
├─ blobs/<algorithm>/<2>/<hex>      shared by all snapshots, copied once, hashed on the way
└─ snapshots/<UTC time>/            named when everything in it is on disk
   ├─ gateway.db                    every record, in one SQLite file
   ├─ blobs.txt                     the digest and size of each blob that a repository holds
   ├─ keys/ tls/ gateway.toml       as they lie in the data directory
   └─ inventory.json                what belongs to it, with digests; written last
"""

#!/bin/sh
# Make a private authority once, and a certificate for the gateway as often as it is needed.
#
#   certs/make-ca.sh FOLDER NAME...
#
# FOLDER/authority.crt   trust this one on the machines of your users
# FOLDER/authority.key   keep this one offline; it is made once and then reused
# FOLDER/gateway.crt     [server] certificate: the leaf, then the authority
# FOLDER/gateway.key     [server] key
#
# NAME is a host name, a wildcard of one label or an IP address. DAYS=n sets the leaf's validity (90 days).
set -eu

if [ $# -lt 2 ]; then
    echo "usage: $0 FOLDER NAME..." >&2
    exit 2
fi
folder=$1
shift
days=${DAYS:-90}
first=$1

umask 077
mkdir -p "$folder"
work=$(mktemp -d "$folder/.making.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM

names=""
for name in "$@"; do
    case $name in
    *[!A-Za-z0-9.:*-]*)
        echo "$0: '$name' is neither a host name nor an address" >&2
        exit 2
        ;;
    *:* | *[!0-9.]*) case $name in *:*) kind=IP ;; *) kind=DNS ;; esac ;;
    *) kind=IP ;;
    esac
    names="$names${names:+,}$kind:$name"
done

if [ ! -e "$folder/authority.key" ] && [ ! -e "$folder/authority.crt" ]; then
    cat >"$work/authority.cnf" <<END
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
O = Registry gateway
CN = Private authority of $(hostname)
[extensions]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
END
    openssl ecparam -name prime256v1 -genkey -noout -out "$work/authority.key"
    openssl req -new -x509 -sha256 -days 3650 -config "$work/authority.cnf" \
        -key "$work/authority.key" -out "$work/authority.crt"
    mv "$work/authority.key" "$folder/authority.key"
    mv "$work/authority.crt" "$folder/authority.crt"
fi

cat >"$work/gateway.cnf" <<END
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = $names
END
cat >"$work/request.cnf" <<END
[req]
distinguished_name = name
prompt = no
[name]
O = Registry gateway
CN = $(printf %.64s "$first")
END
openssl ecparam -name prime256v1 -genkey -noout -out "$work/gateway.key"
openssl req -new -sha256 -config "$work/request.cnf" -key "$work/gateway.key" -out "$work/gateway.csr"
serial=0x$(openssl rand -hex 16 | sed 's/^[89a-f]/7/')
openssl x509 -req -sha256 -days "$days" -in "$work/gateway.csr" -set_serial "$serial" \
    -CA "$folder/authority.crt" -CAkey "$folder/authority.key" \
    -extfile "$work/gateway.cnf" -out "$work/leaf.crt" 2>"$work/log" || {
    cat "$work/log" >&2
    exit 1
}
cat "$work/leaf.crt" "$folder/authority.crt" >"$work/gateway.crt"
chmod 644 "$work/gateway.crt" "$folder/authority.crt"
mv "$work/gateway.key" "$folder/gateway.key"
mv "$work/gateway.crt" "$folder/gateway.crt"

echo "certificate  $folder/gateway.crt"
echo "key          $folder/gateway.key"
echo "trust        $folder/authority.crt"
openssl x509 -noout -fingerprint -sha256 -in "$folder/authority.crt"

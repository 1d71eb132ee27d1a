"""The database: who exists, what content exists, what happened; the only room that knows SQLAlchemy."""

"""The embedded stack behind `slaegan up`: PostgreSQL, Valkey, API and workers, all inside one data folder."""

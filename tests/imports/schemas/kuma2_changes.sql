-- What the migrations of Uptime Kuma 2 (db/knex_migrations, MIT License, Copyright (c) 2021 Louis Lam) make of those tables.
ALTER TABLE heartbeat ADD COLUMN end_time DATETIME NULL DEFAULT NULL;
ALTER TABLE heartbeat ADD COLUMN retries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE heartbeat ADD COLUMN response TEXT NULL DEFAULT NULL;
ALTER TABLE monitor ADD COLUMN manual_status VARCHAR(255) DEFAULT NULL;
CREATE TABLE stat_hourly (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    monitor_id INTEGER NOT NULL REFERENCES monitor (id) ON DELETE CASCADE ON UPDATE CASCADE,
    timestamp INTEGER NOT NULL,
    ping FLOAT NOT NULL,
    ping_min FLOAT NOT NULL DEFAULT '0',
    ping_max FLOAT NOT NULL DEFAULT '0',
    up SMALLINT NOT NULL,
    down SMALLINT NOT NULL,
    extras TEXT DEFAULT NULL
);
CREATE UNIQUE INDEX stat_hourly_monitor_id_timestamp_unique ON stat_hourly (monitor_id, timestamp);

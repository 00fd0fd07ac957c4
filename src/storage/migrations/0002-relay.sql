-- What the relay of an app's outbox table was set up with (docs/relay.md). One row an app.
create table lockstep.relay (
  app               text primary key,
  outbox_table      text not null,
  group_id          text not null,
  system_identifier text not null,
  publication       text not null,
  -- The objects themselves: one that was dropped and made again under its name has passed over rows.
  publication_oid   oid,
  member_oid        oid,         -- of the table in the publication
  slot              text not null,
  slot_lsn          pg_lsn,      -- where the slot begins; null until it is made
  started_at        timestamptz, -- null until the first position stands in Kafka
  resync_reason     text,        -- not null: rows may lack in the topic that the log will not tell of
  stray_slots       text[] not null default '{}' -- to be dropped by the next holder of the lock
);

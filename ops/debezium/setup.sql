-- What Debezium needs in the database of the app, made once, by a superuser or by the owner of app.outbox with CREATEROLE
-- and REPLICATION:
--
--   psql -v ON_ERROR_STOP=1 -d <database of the app> -f setup.sql
--   \password lockstep_debezium         in psql, so that the password is in no file and in no list of processes
--
-- The slot is made last, and before the connector: what is committed from here on is published, what was before is not.
-- After the relay, copy its slot instead of the last statement (README.md, "From the relay to Debezium").

CREATE ROLE lockstep_debezium LOGIN REPLICATION;
GRANT USAGE ON SCHEMA app TO lockstep_debezium;
GRANT SELECT ON app.outbox TO lockstep_debezium;

CREATE PUBLICATION lockstep_debezium FOR TABLE app.outbox WITH (publish = 'insert');

SELECT pg_create_logical_replication_slot('lockstep_debezium', 'pgoutput');

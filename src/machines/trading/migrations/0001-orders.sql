-- Orders, and the outbox from which change data capture publishes them (docs/trading.md, "Orders").
-- Times are event times. Nothing here is ever made by the database: ids, decimals and times come with the row.

CREATE SCHEMA IF NOT EXISTS app;

CREATE TABLE app.orders (
  id              uuid           PRIMARY KEY,
  client_order_id text           NOT NULL UNIQUE,
  symbol          text           NOT NULL,
  side            text           NOT NULL CONSTRAINT orders_side CHECK (side IN ('BUY', 'SELL')),
  qty             numeric(18, 8) NOT NULL CONSTRAINT orders_qty CHECK (qty > 0),
  price           numeric(18, 8) NOT NULL CONSTRAINT orders_price CHECK (price > 0),
  status          text           NOT NULL CONSTRAINT orders_status CHECK (status IN ('NEW', 'FILLED', 'CANCELLED', 'REJECTED')),
  created_at      timestamptz    NOT NULL,
  updated_at      timestamptz    NOT NULL
);

CREATE TABLE app.outbox (
  event_id       uuid        PRIMARY KEY,
  aggregate_type text        NOT NULL,
  aggregate_id   uuid        NOT NULL,
  type           text        NOT NULL,
  payload        jsonb       NOT NULL,
  occurred_at    timestamptz NOT NULL,
  -- At a fixed zone: extract from timestamptz itself counts as dependent on the session's zone, and is refused here.
  occurred_at_ms bigint      NOT NULL
    GENERATED ALWAYS AS ((extract(epoch FROM occurred_at AT TIME ZONE 'UTC') * 1000)::bigint) STORED
);

-- Readers of the log know a row by its primary key.
ALTER TABLE app.orders REPLICA IDENTITY DEFAULT;
ALTER TABLE app.outbox REPLICA IDENTITY DEFAULT;

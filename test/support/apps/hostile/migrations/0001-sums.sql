-- What was added, one row each.
CREATE SCHEMA hostile;

CREATE TABLE hostile.sums (
  id uuid PRIMARY KEY,
  key text NOT NULL,
  n bigint NOT NULL,
  sum bigint NOT NULL,
  qty numeric(18, 8) NOT NULL CONSTRAINT qty_not_negative CHECK (qty >= 0),
  note text NOT NULL
);

-- Visits that have ended, one row each.
CREATE SCHEMA visits;

CREATE TABLE visits.visits (
  id uuid PRIMARY KEY,
  visitor text NOT NULL,
  entered_at timestamptz NOT NULL,
  ended_at timestamptz NOT NULL,
  pings integer NOT NULL CHECK (pings >= 0),
  reason text NOT NULL CHECK (reason IN ('left', 'timedOut'))
);

CREATE SCHEMA greeter;
CREATE TABLE greeter.greetings (id uuid PRIMARY KEY, name text NOT NULL, visits integer NOT NULL);

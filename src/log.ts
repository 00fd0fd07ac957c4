/** What everyone who logs needs of a logger: the object first, a constant message after. telemetry/log.ts makes one. */
export interface Log {
  debug(object: object, message: string): void;
  info(object: object, message: string): void;
  warn(object: object, message: string): void;
  error(object: object, message: string): void;
  child(bindings: object): Log;
}

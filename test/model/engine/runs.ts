/** A run of a model: what is different from the runtime's rules, and what is expected. */
export interface Run<R> {
  readonly name: string;
  readonly rules: Partial<R>;
  /** The property by which a mutant is found; null: everything must hold. */
  readonly foundBy: readonly string[] | null;
}

export function holds<R>(name: string, rules: Partial<R>): Run<R> {
  return { name, rules, foundBy: null };
}

/** @param foundBy one of these is the first to be broken */
export function mutant<R>(name: string, foundBy: readonly string[], rules: Partial<R>): Run<R> {
  return { name, rules, foundBy };
}

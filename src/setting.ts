/** One setting: its name, range and reason, and how its text becomes a value. The table of all of them is in config.ts. */
export interface Setting {
  readonly env: string;
  readonly kind: "text" | "integer" | "list" | "flag";
  readonly fallback: string | null;
  readonly min?: number;
  readonly max?: number;
  /** Unit and reason, shown by `lockstep run --help`. */
  readonly about: string;
  readonly secret?: boolean;
  /** A name that others gave it: read where ours is not set. */
  readonly alias?: string;
}

/** @param faults where a sentence is added when the text is not of the setting's kind, or out of its range */
export function parseSetting(setting: Setting, text: string, faults: string[]): unknown {
  switch (setting.kind) {
    case "text":
      return text;
    case "list":
      return Object.freeze(
        text
          .split(",")
          .map((part) => part.trim())
          .filter((part) => part !== ""),
      );
    case "flag":
      if (["true", "1", "yes", "on"].includes(text)) return true;
      if (["false", "0", "no", "off"].includes(text)) return false;
      faults.push(`${setting.env} is "${text}": true or false`);
      return false;
    case "integer": {
      const value = Number(text);
      const { min = 0, max = Number.MAX_SAFE_INTEGER } = setting;
      if (!Number.isSafeInteger(value) || value < min || value > max)
        faults.push(`${setting.env} is "${text}": a whole number from ${min} to ${max} is wanted (${setting.about})`);
      return value;
    }
  }
}

/**
 * The trading app's rules for the audit. Entry: `audit({ rules: createTradingRules(), ... })` of src/audit/audit.ts.
 */
export { createTradingRules } from "./rules.ts";

#!/usr/bin/env node
/** The process. `node dist/main.js` alone is `lockstep run`. */
import { main } from "./cli/program.ts";

process.exit(await main(process.argv.slice(2), process.env));

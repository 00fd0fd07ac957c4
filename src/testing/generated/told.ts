/** Who tells whom: the actor types from which another one gets events. */
import type { App } from "../../actors/app.ts";
import { emittedTypes } from "../../actors/machine-host.ts";

/**
 * The actor types that tell one something. In a circle, a later one does not count: somebody must be first.
 * @returns in order of definition
 */
export function tellersOf(app: App, actorType: string): string[] {
  const types = Object.keys(app.actors);
  return types.filter(
    (teller, i) =>
      teller !== actorType &&
      tells(app, teller, actorType) &&
      !(i > types.indexOf(actorType) && hears(app, teller, actorType)),
  );
}

function tells(app: App, from: string, to: string): boolean {
  const { known, complete } = emittedTypes(app.actors[from]!.machine);
  return Object.entries(app.emits).some(
    ([event, routes]) =>
      (!complete || known.has(event)) && routes.some((route) => route.kind === "tell" && route.actor === to),
  );
}

/** Whether something of `from` reaches `of`, over others or not. */
function hears(app: App, of: string, from: string): boolean {
  const reached = new Set([from]);
  for (const one of reached) for (const next of Object.keys(app.actors)) if (tells(app, one, next)) reached.add(next);
  return reached.has(of);
}

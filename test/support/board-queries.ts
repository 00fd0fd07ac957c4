/**
 * The questions that the boards ask, one by one: what each panel, variable and annotation would send to Prometheus.
 */
import type { Dashboard, Panel } from "@grafana/grafana-foundation-sdk/dashboard";

import { BOARDS } from "../../ops/grafana/index.ts";

export interface BoardQuery {
  /** Name of the board, as its file. */
  readonly board: keyof typeof BOARDS;
  readonly panel: string;
  /** Grafana's legend format; it tells the queries of a panel apart. */
  readonly legend: string;
  readonly expr: string;
  /** Panels of one instant (tables) instead of a range. */
  readonly instant: boolean;
}

export function boardQueries(): BoardQuery[] {
  return boards().flatMap(([board, { panels = [] }]) =>
    (panels as Panel[])
      .filter(({ type }) => type !== "row")
      .flatMap((panel) =>
        (panel.targets ?? []).map((target) => {
          const { expr, legendFormat, instant } = target as unknown as {
            expr: string;
            legendFormat?: string;
            instant?: boolean;
          };
          return { board, panel: panel.title!, legend: legendFormat ?? "", expr, instant: instant === true };
        }),
      ),
  );
}

/** All boards have the same; those of one are asked. */
export function annotationQueries(): BoardQuery[] {
  return boards()
    .filter(([board]) => board === "overview")
    .flatMap(([board, { annotations }]) =>
      (annotations.list ?? []).map(({ name, expr }) => ({
        board,
        panel: `annotation ${name}`,
        legend: "",
        expr: expr!,
        instant: false,
      })),
    );
}

/** `label_values(<metric>, <label>)` of the boards' variables, taken apart. */
export function variableQueries(): { board: string; variable: string; selector: string; label: string }[] {
  return boards().flatMap(([board, { templating }]) =>
    (templating.list ?? [])
      .filter(({ type }) => type === "query")
      .map(({ name, definition }) => {
        const [, selector, label] = /^label_values\((.+), (\w+)\)$/.exec(definition!)!;
        return { board, variable: name, selector: selector!, label: label! };
      }),
  );
}

function boards(): [keyof typeof BOARDS, Dashboard][] {
  return (Object.keys(BOARDS) as (keyof typeof BOARDS)[]).map((name) => [name, BOARDS[name]()]);
}

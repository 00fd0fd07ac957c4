/**
 * A board: its rows of panels, and what all boards have in common: variables, links to each other, events on the time axis.
 */
import {
  AnnotationQueryBuilder,
  type Dashboard,
  DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  type Panel,
  QueryVariableBuilder,
  RowBuilder,
  VariableRefresh,
  VariableSort,
} from "@grafana/grafana-foundation-sdk/dashboard";

import { type BoardPanel, DATASOURCE, type SeriesName, series } from "./panels.ts";

const TAG = "lockstep";

export interface BoardSpec {
  /** Stable: bookmarks and links to a board are made of it. */
  readonly uid: string;
  readonly title: string;
  readonly about: string;
  readonly rows: readonly { readonly title: string; readonly panels: readonly BoardPanel[] }[];
  /** Further variables: the values that a label of a metric has. */
  readonly variables?: readonly { readonly label: string; readonly metric: SeriesName; readonly title: string }[];
}

export function board(spec: BoardSpec): Dashboard {
  const dashboard = new DashboardBuilder(`Lockstep / ${spec.title}`)
    .uid(spec.uid)
    .description(spec.about)
    .tags([TAG])
    .tooltip(DashboardCursorSync.Crosshair)
    .time({ from: "now-1h", to: "now" })
    .refresh("10s")
    .link(
      new DashboardLinkBuilder("Lockstep")
        .type(DashboardLinkType.Dashboards)
        .tags([TAG])
        .includeVars(true)
        .keepTime(true),
    )
    .withVariable(new DatasourceVariableBuilder("datasource").label("Data source").type("prometheus"))
    .withVariable(labelValues({ name: "app", title: "App", metric: "lockstep_build_info" }))
    .withVariable(labelValues({ name: "group", title: "Group", metric: 'lockstep_build_info{app="$app"}' }));
  for (const { label, metric, title } of spec.variables ?? []) {
    dashboard.withVariable(
      labelValues({ name: label, title, metric: series(metric) })
        .multi(true)
        .includeAll(true)
        .allValue(".*"),
    );
  }
  for (const annotation of ANNOTATIONS) dashboard.annotation(annotation());

  let id = 0;
  for (const { title, panels } of spec.rows) {
    id += 1;
    dashboard.withRow(new RowBuilder(title).id(id));
    for (const panel of panels) {
      id += 1;
      const built: Panel = { ...panel.build(), id };
      dashboard.withPanel({ build: () => built });
    }
  }
  return dashboard.build();
}

/**
 * Events on the time axis of every board. A rebalance knows its own time, so it stands where it was, not at the scrape after it;
 * the others are seen in the growth of a counter.
 */
const ANNOTATIONS: readonly (() => AnnotationQueryBuilder)[] = [
  () =>
    events({
      name: "Rebalances",
      color: "blue",
      expr: `max by (instance, worker) (${series("lockstep_rebalance_last_timestamp_seconds")}) * 1000 > 0`,
      title: "Rebalance",
      text: "worker {{worker}} of {{instance}} has a new assignment",
    }).useValueForTime(true),
  () =>
    events({
      name: "Takeovers",
      color: "orange",
      expr: `sum by (instance) (increase(${series("lockstep_takeovers_total")}[$__rate_interval])) > 0`,
      title: "Takeover",
      text: "{{instance}} took shards over from an owner that had not released them",
    }),
  () =>
    events({
      name: "Fenced or lost",
      color: "red",
      expr:
        `sum by (instance) (increase(${series("lockstep_fenced_total")}[$__rate_interval])` +
        ` + increase(${series("lockstep_shard_lost_total")}[$__rate_interval])) > 0`,
      title: "Fenced or lost",
      text: "{{instance}} found that it no longer owned a shard",
    }),
];

function events(spec: {
  name: string;
  color: string;
  expr: string;
  title: string;
  text: string;
}): AnnotationQueryBuilder {
  return new AnnotationQueryBuilder()
    .name(spec.name)
    .datasource(DATASOURCE)
    .enable(true)
    .iconColor(spec.color)
    .expr(spec.expr)
    .step("10s")
    .titleFormat(spec.title)
    .textFormat(spec.text)
    .tagKeys("instance");
}

function labelValues(spec: { name: string; title: string; metric: string }): QueryVariableBuilder {
  const query = `label_values(${spec.metric}, ${spec.name})`;
  return new QueryVariableBuilder(spec.name)
    .label(spec.title)
    .datasource(DATASOURCE)
    .query(query)
    .definition(query)
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .sort(VariableSort.NaturalAsc);
}

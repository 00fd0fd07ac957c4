/**
 * The kinds of panels that our boards are made of, over Grafana's builder: what a board says is its questions, and how a
 * panel of one kind looks is said once, here.
 *
 * Every query goes to the datasource that the variable `datasource` names, and takes the series of one app and one group.
 */
import {
  BigValueGraphMode,
  GraphDrawStyle,
  LegendDisplayMode,
  LegendPlacement,
  ReduceDataOptionsBuilder,
  SortOrder,
  StackingConfigBuilder,
  StackingMode,
  TooltipDisplayMode,
  VisibilityMode,
  VizLegendOptionsBuilder,
  VizTooltipOptionsBuilder,
} from "@grafana/grafana-foundation-sdk/common";
import {
  FieldColorBuilder,
  FieldColorModeId,
  MappingType,
  type Panel,
  ThresholdsConfigBuilder,
  ThresholdsMode,
  type ValueMapping,
} from "@grafana/grafana-foundation-sdk/dashboard";
import {
  HeatmapColorMode,
  HeatmapColorOptionsBuilder,
  PanelBuilder as HeatmapPanel,
  YAxisConfigBuilder,
} from "@grafana/grafana-foundation-sdk/heatmap";
import { DataqueryBuilder, PromQueryFormat } from "@grafana/grafana-foundation-sdk/prometheus";
import { PanelBuilder as StatPanel } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as StateTimelinePanel } from "@grafana/grafana-foundation-sdk/statetimeline";
import { PanelBuilder as TablePanel } from "@grafana/grafana-foundation-sdk/table";
import { PanelBuilder as TimeSeriesPanel } from "@grafana/grafana-foundation-sdk/timeseries";

import type { NameOf } from "../../src/telemetry/metrics-list.ts";
import type { NodeMetric } from "./node-metrics.ts";

// biome-ignore lint/suspicious/noTemplateCurlyInString: Grafana puts the variable in
export const DATASOURCE = { type: "prometheus", uid: "${datasource}" } as const;

/** Grafana's names of the units that our metrics have. */
export const UNIT = {
  count: "short",
  perSecond: "suffix:/s",
  seconds: "s",
  bytes: "bytes",
  ratio: "percentunit",
  unixMs: "dateTimeAsIso",
} as const;
type Unit = (typeof UNIT)[keyof typeof UNIT];

/** From green to red, or the reverse when less is worse. `from` is the first value of the colour. */
export type Steps = readonly { readonly from: number; readonly color: "green" | "orange" | "red" }[];
export const RED_ABOVE_ZERO: Steps = [{ from: 1, color: "red" }];

export interface Query {
  readonly expr: string;
  /** Grafana's legend format, as in "{{topic}}". */
  readonly legend: string;
}

export interface PanelSpec {
  readonly title: string;
  /** What it shows and how to read it: shown behind the i of the panel. */
  readonly about: string;
  readonly queries: readonly Query[];
  readonly unit: Unit;
  /** Columns of 24. */
  readonly width: number;
}

/** A panel of any kind, ready for a board, which gives it its place. */
export interface BoardPanel {
  build(): Panel;
}

type Counter = NameOf<"counter"> | NodeMetric;
type Histogram = NameOf<"histogram">;
/** What can be selected. A name that the process does not show is a type error. */
export type SeriesName =
  | NameOf<"counter" | "gauge" | "summary">
  | NodeMetric
  | `${Histogram}_${"bucket" | "sum" | "count"}`;

/** `lockstep_tx_total` with the selectors of every board, and more of its own. */
export function series(metric: SeriesName, ...more: readonly string[]): string {
  return `${metric}{${['app="$app"', 'group="$group"', ...more].join(", ")}}`;
}

/** Of a histogram: the quantile over the panel's step, for each group of labels. */
export function quantile(
  q: number,
  histogram: Histogram,
  options: { by?: readonly string[]; where?: string } = {},
): string {
  const labels = [...(options.by ?? []), "le"].join(", ");
  const buckets = series(`${histogram}_bucket`, ...(options.where ? [options.where] : []));
  return `histogram_quantile(${q}, sum by (${labels}) (rate(${buckets}[$__rate_interval])))`;
}

/** Of a histogram: sum / count over the panel's step. */
export function mean(histogram: Histogram, options: { by?: readonly string[]; where?: string } = {}): string {
  const by = options.by === undefined ? "" : `by (${options.by.join(", ")}) `;
  const part = (suffix: "sum" | "count") =>
    `sum ${by}(rate(${series(`${histogram}_${suffix}`, ...(options.where ? [options.where] : []))}[$__rate_interval]))`;
  return `${part("sum")} / ${part("count")}`;
}

/** Events a second of a counter, for each group of labels. */
export function perSecond(counter: Counter, by: readonly string[] = [], ...where: readonly string[]): string {
  const grouping = by.length === 0 ? "" : ` by (${by.join(", ")})`;
  return `sum${grouping} (rate(${series(counter, ...where)}[$__rate_interval]))`;
}

/** What a counter grew by within one step of the panel. */
export function perStep(counter: Counter, by: readonly string[] = []): string {
  const grouping = by.length === 0 ? "" : ` by (${by.join(", ")})`;
  return `sum${grouping} (increase(${series(counter)}[$__rate_interval]))`;
}

/** What a counter grew by within the time that the board shows. */
export function inRange(counter: Counter, ...where: readonly string[]): string {
  return `sum (increase(${series(counter, ...where)}[$__range]))`;
}

/** One figure: the latest. */
export function stat(spec: PanelSpec & { steps?: Steps; noValue?: string }): BoardPanel {
  const panel = new StatPanel()
    .graphMode(BigValueGraphMode.Area)
    .reduceOptions(new ReduceDataOptionsBuilder().calcs(["lastNotNull"]))
    .thresholds(thresholds(spec.steps ?? []))
    .height(4);
  if (spec.noValue !== undefined) panel.noValue(spec.noValue);
  return dressed(panel, spec);
}

/** Series over time: lines, or bars for what happens seldom and has a number. */
export function overTime(
  spec: PanelSpec & { bars?: boolean; stacked?: boolean; max?: number; height?: number },
): BoardPanel {
  const panel = new TimeSeriesPanel()
    .height(spec.height ?? 8)
    .min(0)
    .lineWidth(1)
    .fillOpacity(spec.bars ? 80 : 10)
    .drawStyle(spec.bars ? GraphDrawStyle.Bars : GraphDrawStyle.Line)
    .showPoints(VisibilityMode.Never)
    .stacking(new StackingConfigBuilder().mode(spec.stacked ? StackingMode.Normal : StackingMode.None))
    .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi).sort(SortOrder.Descending))
    .legend(
      new VizLegendOptionsBuilder()
        .showLegend(true)
        .displayMode(LegendDisplayMode.List)
        .placement(LegendPlacement.Bottom)
        .calcs(["max", "lastNotNull"]),
    );
  if (spec.max !== undefined) panel.max(spec.max);
  return dressed(panel, spec);
}

/** How often each duration was seen, over time. */
export function heatmap(spec: Omit<PanelSpec, "queries"> & { histogram: Histogram; where?: string }): BoardPanel {
  const buckets = series(`${spec.histogram}_bucket`, ...(spec.where ? [spec.where] : []));
  const panel = new HeatmapPanel()
    .height(8)
    .calculate(false)
    .color(new HeatmapColorOptionsBuilder().mode(HeatmapColorMode.Scheme).scheme("Oranges").steps(64))
    .yAxis(new YAxisConfigBuilder().unit(spec.unit));
  const query = { expr: `sum by (le) (increase(${buckets}[$__rate_interval]))`, legend: "{{le}}" };
  return dressed(panel, { ...spec, queries: [query] }, PromQueryFormat.Heatmap);
}

/**
 * What each of several things was, over time: one line a thing, coloured by a text. The text is a label of the series, which a
 * state timeline cannot show; so the series become one table, and the table a matrix: time down, things across, texts inside.
 * @param spec.query series that are there as long as they are true
 */
export function stateTimeline(spec: {
  title: string;
  about: string;
  width: number;
  height?: number;
  expr: string;
  /** Label that names the line. */
  line: string;
  /** Label that has the text. */
  text: string;
  colors?: Readonly<Record<string, string>>;
}): BoardPanel {
  const time = "Time";
  const panel = new StateTimelinePanel()
    .height(spec.height ?? 8)
    .mergeValues(true)
    .showValue(VisibilityMode.Auto)
    .fillOpacity(80)
    .lineWidth(0)
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.PaletteClassic))
    .mappings(textColors(spec.colors ?? {}))
    .legend(
      new VizLegendOptionsBuilder()
        .showLegend(true)
        .displayMode(LegendDisplayMode.List)
        .placement(LegendPlacement.Bottom),
    )
    .withTransformation({ id: "sortBy", options: { sort: [{ field: spec.line }] } })
    .withTransformation({
      id: "groupingToMatrix",
      options: { rowField: time, columnField: spec.line, valueField: spec.text, emptyValue: "null" },
    })
    .withTransformation({ id: "sortBy", options: { sort: [{ field: `${time}\\${spec.line}` }] } });
  const queries = [{ expr: spec.expr, legend: `{{${spec.line}}}` }];
  return dressed(panel, { ...spec, unit: UNIT.count, queries }, PromQueryFormat.Table);
}

/** The latest value of each series, one a row, with its labels as columns. */
export function table(spec: PanelSpec & { hidden?: readonly string[]; sortBy?: string }): BoardPanel {
  const always = ["Time", "__name__", "app", "group", "job"];
  const panel = new TablePanel().height(8).withTransformation({
    id: "organize",
    options: { excludeByName: Object.fromEntries([...always, ...(spec.hidden ?? [])].map((name) => [name, true])) },
  });
  return dressed(panel, spec, PromQueryFormat.Table, { instant: true });
}

interface AnyPanel {
  title(title: string): this;
  description(about: string): this;
  span(width: number): this;
  unit(unit: string): this;
  datasource(reference: { type: string; uid: string }): this;
  withTarget(target: DataqueryBuilder): this;
  build(): Panel;
}

function dressed<P extends AnyPanel>(
  panel: P,
  spec: PanelSpec,
  format = PromQueryFormat.TimeSeries,
  options: { instant?: boolean } = {},
): P {
  panel.title(spec.title).description(spec.about).span(spec.width).unit(spec.unit).datasource(DATASOURCE);
  for (const [index, { expr, legend }] of spec.queries.entries()) {
    const target = new DataqueryBuilder()
      .refId(String.fromCharCode("A".charCodeAt(0) + index))
      .datasource(DATASOURCE)
      .expr(expr)
      .legendFormat(legend)
      .format(format);
    panel.withTarget(options.instant ? target.instant() : target.range());
  }
  return panel;
}

function thresholds(steps: Steps): ThresholdsConfigBuilder {
  return new ThresholdsConfigBuilder()
    .mode(ThresholdsMode.Absolute)
    .steps([{ value: null, color: "green" }, ...steps.map(({ from, color }) => ({ value: from, color }))]);
}

function textColors(colors: Readonly<Record<string, string>>): ValueMapping[] {
  const entries = Object.entries(colors).map(([text, color], index) => [text, { text, color, index }] as const);
  return entries.length === 0 ? [] : [{ type: MappingType.ValueToText, options: Object.fromEntries(entries) }];
}

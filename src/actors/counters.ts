/**
 * Counters of the runtime, kept beside those of the app's `count` routes: exactly once, part of the snapshot.
 *
 *   taken         records taken, whatever became of them
 *   dropped       records not above the last one seen of their source
 *   late          records older than the app allows
 *   quarantined   records and timers set aside
 *   timersFired   timers fired, by records and by ticks, those set aside included
 */
export const RUNTIME_COUNTERS: readonly string[] = ["taken", "dropped", "late", "quarantined", "timersFired"];

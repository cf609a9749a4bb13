// What `bot/` and other programs may use. Only re-exports, sorted by file; heavy libraries load when they are used.
export * from './core/artifact.ts';
export * from './core/candidate.ts';
export * from './core/claim.ts';
export * from './core/data-decision.ts';
export * from './core/data-news.ts';
export * from './core/decision.ts';
export * from './core/digest.ts';
export * from './core/error.ts';
export * from './core/evaluation.ts';
export * from './core/head.ts';
export { keepNewest, keptFor } from './core/keep.ts';
export * from './core/live.ts';
export * from './core/lock.ts';
export * from './core/metric-text.ts';
export * from './core/plural.ts';
export * from './core/project.ts';
export { type RequiredRole, requiredApprovals, selfApproval } from './core/project-approvals.ts';
export type { Budgets } from './core/project-budgets.ts';
export { ownFunctions } from './core/project-data-rules.ts';
export { type EventType, eventTypes, type Notify } from './core/project-notify.ts';
export { type Runtime, runtimeOf } from './core/project-train.ts';
export type { Trigger } from './core/project-triggers.ts';
export * from './core/redact.ts';
export * from './core/report.ts';
export { decodeStepFailure, type StepFailure, stepFailurePath } from './core/step-failure.ts';
export * from './core/suggest.ts';
export { type DataStanding, judgeVersion } from './data/evidence.ts';
export {
  type Database,
  derivedTables,
  hasQueue,
  openDatabase,
  openQueue,
  type Queryable,
  type Queue,
} from './db/index.ts';
export { type Drift, driftReport, findDrift, readDrift } from './deploy/drift.ts';
export { planDeployment } from './deploy/plan.ts';
export { readChain, readDataChain, readLiveRecord } from './deploy/records.ts';
export type { Plan } from './deploy/types.ts';
export { packageRoot } from './exec/root.ts';
export { type FastForward, type Mirror, openMirror } from './forge/git.ts';
export * from './forge/index.ts';
export { type AccuracyDifference, compareCorrect, correctFile } from './model/correct.ts';
export { listVersions, type Version } from './model/registry.ts';
export { readSteps } from './model/run-steps.ts';
export { runFactsSchema } from './model/runs.ts';
export { filesFromSource, type PackageSource, packageProblems } from './model/source-files.ts';
export { drawChart, layoutWidth } from './report/chart.ts';
export { chartKey, chartsOf } from './report/chart-key.ts';
export { codeSpan, escapeInline, escapeLine } from './report/escape.ts';
export { type Html, html, type Part, render as renderHtml, trusted as trustedHtml } from './report/html.ts';
export { renderMarkdown } from './report/markdown.ts';
export { cleanLine } from './report/text.ts';
export { createZone, openStore, type StoreCredentials, type Zone } from './store/index.ts';
export type {
  DataShape,
  FitItem,
  Hyperparameters,
  LayersModel,
  ModelCode,
  Parameters,
  Tensor,
  Tf,
} from './train/types.ts';

/**
 * The border between the forge and the CI half: what the CI half implements and what it is given. The engine and the routes
 * refer to each other, so they are declared in one place (route.ts).
 */
export type { PipelineOutcome, PipelineRequest } from './pipeline-request.ts';
export { ApiError, type Call, type CiEngine, type Reply, type Route } from './route.ts';

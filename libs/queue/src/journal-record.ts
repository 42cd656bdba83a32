import { JOB_KINDS, JOB_STATES, type JobKind, type JobState, type LayerProgress } from '@strata/api'
import { isErrorCode, StrataError, toldToCaller, type ToldError } from '@strata/base'

/** A request that became a job, as `GET /v1/jobs/:id` shows it. Times are ISO 8601. */
export interface JournalRecord {
  readonly id: string
  readonly kind: JobKind
  readonly state: JobState
  readonly step: string
  readonly bytes: number
  readonly entries: number
  readonly total?: number
  /** Of a launch or a start: its container. */
  readonly container?: string
  /** Of a pull. */
  readonly layers?: LayerProgress[]
  readonly createdAt: string
  readonly updatedAt: string
  readonly result?: unknown
  readonly error?: ToldError
}

/** States that are final. */
export const ENDS: ReadonlySet<JobState> = new Set(['completed', 'failed', 'cancelled'])

/** The fields of a record as Redis has them. */
type JournalFields = Record<string, string>

/** Whether there is a record, and this version knows its kind. */
export function isListable(fields: JournalFields): boolean {
  return fields['state'] !== undefined && isKind(kindOf(fields))
}

/** The first versions had loads only, and did not say so. */
function kindOf(fields: JournalFields): string {
  return fields['kind'] ?? 'load'
}

const KINDS: ReadonlySet<string> = new Set(JOB_KINDS)
function isKind(kind: string): kind is JobKind {
  return KINDS.has(kind)
}

const STATES: ReadonlySet<string> = new Set(JOB_STATES)
function isState(state: string): state is JobState {
  return STATES.has(state)
}

/** @throws StrataError `unsupported` for a kind or state that this version does not know */
export function toRecord(fields: JournalFields): JournalRecord {
  const id = fields['id'] ?? ''
  const kind = kindOf(fields)
  const state = fields['state'] ?? ''
  if (!isKind(kind) || !isState(state))
    throw new StrataError(
      'unsupported',
      `the job ${id} is of the kind ${JSON.stringify(kind)} and in the state ${JSON.stringify(state)}, of which this version does not know one: upgrade Strata`,
    )
  const error =
    fields['error'] === undefined ? undefined : (JSON.parse(fields['error']) as { code: unknown; message: string })
  return {
    id,
    kind,
    state,
    step: fields['step'] ?? '',
    bytes: Number(fields['bytes']),
    entries: Number(fields['entries']),
    ...(fields['total'] === undefined ? {} : { total: Number(fields['total']) }),
    ...(fields['container'] === undefined ? {} : { container: fields['container'] }),
    ...(fields['layers'] === undefined ? {} : { layers: JSON.parse(fields['layers']) as LayerProgress[] }),
    createdAt: fields['createdAt'] ?? '',
    updatedAt: fields['updatedAt'] ?? '',
    ...(fields['result'] === undefined ? {} : { result: JSON.parse(fields['result']) as unknown }),
    ...(error === undefined
      ? {}
      : { error: toldToCaller({ code: isErrorCode(error.code) ? error.code : 'internal', message: error.message }) }),
  }
}

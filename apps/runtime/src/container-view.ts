import type { ContainerView } from '@strata/api'
import { argsOf, waitsForStart, type ContainerRecord, type ContainerState } from '@strata/containers'
import { ERROR_TITLES, toldToCaller } from '@strata/base'

/**
 * What of a container may be seen in Redis: nothing of its command, which travels sealed, nor a
 * sentence that may quote it.
 */
export function publicView(record: ContainerRecord, node: string, name: string | undefined): ContainerView {
  // A start is under way. If the node is lost now, nobody else can tell whether the process runs.
  const known: ContainerRecord = record.idle ? { ...record, idle: undefined, state: { status: 'created' } } : record
  const { state } = known
  const error = state.status === 'exited' ? state.error : undefined
  return {
    ...containerView(known, node, name),
    command: [],
    ...(error === undefined ? {} : { reason: ERROR_TITLES[error] }),
  }
}

/**
 * A node's record of a container as the API shows it, under `name` or else its short id. The
 * environment is not shown.
 */
export function containerView(record: ContainerRecord, node: string, name: string | undefined): ContainerView {
  const { id, image, request, createdAt, autoRemove } = record
  // A start that is under way and may still be taken back has changed nothing yet. It is not
  // counted either: whoever asks for a start meanwhile means the same one.
  const { state, starts } = record.idle ?? record
  return {
    id,
    name: name ?? id.slice(0, 12),
    image: image.name,
    imageId: image.id,
    node,
    command: argsOf(image, request),
    state: state.status,
    createdAt,
    ...('startedAt' in state && state.startedAt !== undefined ? { startedAt: state.startedAt } : {}),
    ...(state.status === 'running' ? { pid: state.pid } : {}),
    ...(state.status === 'exited' ? { finishedAt: state.finishedAt, exitCode: state.code, ...endReason(state) } : {}),
    starts: state.status === 'created' ? 0 : starts,
    ...(waitsForStart(record) ? { waits: true } : {}),
    autoRemove: autoRemove ?? false,
    network: request.network ?? 'none',
  }
}

/** Why Strata ended a container, if it did, as its caller is told. */
export function endReason({ reason, error }: Pick<Extract<ContainerState, { status: 'exited' }>, 'reason' | 'error'>): {
  reason?: string
} {
  if (reason === undefined) return {}
  return { reason: error === undefined ? reason : toldToCaller({ code: error, message: reason }).message }
}

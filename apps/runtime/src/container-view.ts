import type { ContainerView } from '@strata/api'
import { argsOf, type ContainerRecord, type ContainerState } from '@strata/containers'
import { ERROR_TITLES, toldToCaller } from '@strata/base'

/**
 * What of a container may be seen in Redis: nothing of its command, which travels sealed, nor a
 * sentence that may quote it.
 */
export function publicView(record: ContainerRecord, node: string, name: string | undefined): ContainerView {
  const { state } = record
  const error = state.status === 'exited' ? state.error : undefined
  return {
    ...containerView(record, node, name),
    command: [],
    ...(error === undefined ? {} : { reason: ERROR_TITLES[error] }),
  }
}

/**
 * A node's record of a container as the API shows it, under `name` or else its short id. The
 * environment is not shown.
 */
export function containerView(record: ContainerRecord, node: string, name: string | undefined): ContainerView {
  const { id, image, request, state, createdAt, autoRemove } = record
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

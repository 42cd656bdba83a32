import type { ContainerView } from '@strata/api'
import { argsOf, type ContainerRecord } from '@strata/containers'

/** What of a container may be seen in Redis: all but its command, which travels sealed. */
export function publicView(record: ContainerRecord, node: string): ContainerView {
  return { ...containerView(record, node), command: [] }
}

/** A node's record of a container as the API shows it. The environment is not shown. */
export function containerView(record: ContainerRecord, node: string): ContainerView {
  const { id, name, image, request, state, createdAt, autoRemove } = record
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
    ...(state.status === 'exited' ? { finishedAt: state.finishedAt, exitCode: state.code, ...(state.reason === undefined ? {} : { reason: state.reason }) } : {}),
    autoRemove: autoRemove ?? false,
    network: request.network ?? 'none',
  }
}

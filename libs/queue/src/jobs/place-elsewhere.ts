import { StrataError } from '@strata/base'
import type { ImageRef } from '@strata/api'
import { QUEUES } from './contracts.js'
import type { ParentJob, Producer } from './producer.js'

/** How often one part of a load is given to another node. */
const MOST_MOVES = 5

/**
 * Gives an `assemble` that its node cannot do to any other: adds a `place` beside it, for the same
 * parent. The parent waits for both, so the one that could not be done may end as done. Only for
 * what may be done twice: never for a launch.
 * @throws StrataError `node_unavailable` if it was moved too often
 */
export async function placeElsewhere(
  producer: Producer,
  job: { id: string; root: string; image: ImageRef; parent: ParentJob },
): Promise<void> {
  const { id, root, image, parent } = job
  // Ids are fixed, so that a second run adds nothing again; each move adds a word to them.
  if (id.split('-again').length > MOST_MOVES) {
    throw new StrataError(
      'node_unavailable',
      `${MOST_MOVES} nodes that were to prepare the image ${image.id} went away: ask again`,
    )
  }
  await producer.add(
    { name: 'place', queue: QUEUES.runtime, id: `${id}-again`, data: { root, purpose: 'assemble', image } },
    parent,
  )
}

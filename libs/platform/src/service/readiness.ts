import { SingleFlight } from '@strata/base'

/** Why a service does not serve, and the sentence that is all a health check tells. */
export const NOT_READY = {
  starting: 'the service is starting',
  draining: 'the service is ending and takes nothing new',
  redis: 'Redis does not answer',
  store: 'the store does not answer',
  node: 'no node is running',
  place: 'another process serves this node',
} as const
export type NotReady = keyof typeof NOT_READY

const CHECK_MS = 2_000
/** No object is there, and none ever is: whether the store says so is the question. */
const PROBE_KEY = 'health/probe'

/**
 * Whether what a service needs answers. A check resolves with false, throws, or takes longer than 2
 * s: then it counts as away. Whoever asks while others wait for an answer gets theirs, so that many
 * askers cost as much as one.
 */
export class Readiness {
  readonly #asking = new SingleFlight<readonly NotReady[]>()

  constructor(private readonly checks: Partial<Readonly<Record<NotReady, () => Promise<boolean>>>>) {}

  notReady(): Promise<readonly NotReady[]> {
    return this.#asking.run(() => this.#ask())
  }

  async #ask(): Promise<readonly NotReady[]> {
    const asked = Object.entries(this.checks) as [NotReady, () => Promise<boolean>][]
    const answers = await Promise.all(
      asked.map(async ([name, check]) => ((await within(CHECK_MS, check)) ? [] : [name])),
    )
    return answers.flat()
  }
}

/** One look at a fixed key: lists nothing, reads nothing. */
export async function storeAnswers(store: { stat(key: string): Promise<unknown> }): Promise<boolean> {
  await store.stat(PROBE_KEY)
  return true
}

export interface ReadyAnswer {
  readonly status: 200 | 503
  readonly body: { readonly status: 'ready' } | { readonly status: 'not ready'; readonly reasons: readonly string[] }
}

export function readyAnswer(reasons: readonly NotReady[]): ReadyAnswer {
  return reasons.length === 0
    ? { status: 200, body: { status: 'ready' } }
    : { status: 503, body: { status: 'not ready', reasons: reasons.map((reason) => NOT_READY[reason]) } }
}

async function within(milliseconds: number, check: () => Promise<boolean>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<boolean>((resolve) => (timer = setTimeout(() => resolve(false), milliseconds)))
  return Promise.race([check().catch(() => false), late]).finally(() => clearTimeout(timer))
}

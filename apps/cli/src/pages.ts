import { CliError } from './errors.js'

/** So many items are asked for at a time: the most that the service gives. */
const PAGE = 1_000

/** One page of a list of the API, as it is asked for. */
export interface PageQuery {
  readonly limit: number
  readonly after: string | undefined
}

/** All items of a list, page after page. @throws CliError if the service answers one page twice */
export async function allPages<T>(
  ask: (page: PageQuery) => Promise<{ readonly items: readonly T[]; readonly next?: string | undefined }>,
): Promise<T[]> {
  const all: T[] = []
  let after: string | undefined
  do {
    const { items, next } = await ask({ limit: PAGE, after })
    if (next !== undefined && next === after) throw new CliError(`the service gave the page behind ${next} twice`)
    all.push(...items)
    after = next
  } while (after !== undefined)
  return all
}

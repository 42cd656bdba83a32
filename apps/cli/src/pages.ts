import { CliError } from './errors.js'

/** So many items are asked for at a time: the most that the service gives. */
const PAGE = 1_000

/** One page of a list of the API, as it is asked for. */
interface PageQuery {
  readonly limit: number
  readonly after: string | undefined
}

type Ask<T> = (page: PageQuery) => Promise<{ readonly items: readonly T[]; readonly next?: string | undefined }>

/** The pages of a list, each as it comes. @throws CliError if the service goes round in a circle */
export async function* pagesOf<T>(ask: Ask<T>): AsyncGenerator<readonly T[]> {
  let after: string | undefined
  // One place of the list is remembered, a later one each time that so many pages have come: a
  // circle of any length meets it (Brent).
  let remembered: string | undefined
  for (let [pages, until] = [1, 1]; ; pages++) {
    const { items, next } = await ask({ limit: PAGE, after })
    if (next !== undefined && (next === after || next === remembered))
      throw new CliError(`the service gave the page behind ${next} twice`)
    yield items
    if (next === undefined) return
    after = next
    if (pages < until) continue
    remembered = next
    until *= 2
  }
}

/** All items of a list. @throws as `pagesOf` */
export async function allPages<T>(ask: Ask<T>): Promise<T[]> {
  const all: T[] = []
  for await (const items of pagesOf(ask)) all.push(...items)
  return all
}

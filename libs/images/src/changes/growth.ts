import { StrataError } from '@strata/base'

/**
 * How much more text changes may become than they were written as: values of variables and ports of
 * ranges. It is asked for before the text is made, over all changes of one request together, since
 * each instruction may double what the one before it made (`ENV A=$A$A`).
 */
export class Growth {
  #left: number

  constructor(private readonly most: number) {
    this.#left = most
  }

  /** @throws StrataError `limit_exceeded` */
  take(characters: number): void {
    if (characters > this.#left)
      throw new StrataError('limit_exceeded', `the changes expand to more than ${this.most} characters`)
    this.#left -= characters
  }
}

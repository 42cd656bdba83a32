import { StrataError } from '@strata/base'

/**
 * Limits the text that changes expand to (values of variables, ports of ranges). It is taken before
 * the text is made, and over all changes of one request together, since each instruction may double
 * the result of the one before (`ENV A=$A$A`).
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

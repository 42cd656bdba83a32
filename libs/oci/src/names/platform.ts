import { StrataError } from '@strata/base'
import type { ImageConfig } from '../documents/image.js'

/**
 * image-spec, image-index.md, "platform", in Go's words: as an image gives it, so any part may be
 * an empty text.
 */
export interface Platform {
  readonly os: string
  readonly architecture: string
  readonly variant?: string | undefined
}

const GO_NAMES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' }
/** What this machine runs. */
export const HOST_PLATFORM: Platform = { os: 'linux', architecture: GO_NAMES[process.arch] ?? process.arch }

export function platformOf(config: ImageConfig): Platform {
  return { os: config.os, architecture: config.architecture, ...(config.variant ? { variant: config.variant } : {}) }
}

const WORD = '[a-z0-9_][a-z0-9_.-]{0,31}'
export const PLATFORM = new RegExp(`^${WORD}/${WORD}(?:/${WORD})?$`, 'i')

/**
 * `linux/arm64`, `linux/arm/v7`; also with the names that kernels have for machines, as docker
 * takes them (`linux/aarch64`).
 */
export function parsePlatform(text: string): Platform {
  if (!PLATFORM.test(text))
    throw new StrataError(
      'bad_request',
      `${JSON.stringify(text.slice(0, 100))} is not a platform: os/arch or os/arch/variant, as linux/arm64`,
    )
  const [os = '', architecture = '', variant] = text.toLowerCase().split('/')
  return normal({ os, architecture, ...(variant === undefined ? {} : { variant }) })
}

/** Of an image's hostile words those that are none become `unknown`, so that the text parses. */
export function formatPlatform({ os, architecture, variant }: Platform): string {
  return [word(os) ?? 'unknown', word(architecture) ?? 'unknown', word(variant)]
    .filter((part) => part !== undefined)
    .join('/')
}

const ONE_WORD = new RegExp(`^${WORD}$`, 'i')
function word(text: string | undefined): string | undefined {
  return text !== undefined && ONE_WORD.test(text) ? text : undefined
}

/**
 * Whether an image for `has` is one for `wanted`. A variant counts where one is wanted; what an
 * image leaves open is this machine's.
 */
export function matchesPlatform(has: Platform, wanted: Platform): boolean {
  const [a, b] = [
    normal({ ...has, os: has.os || HOST_PLATFORM.os, architecture: has.architecture || HOST_PLATFORM.architecture }),
    normal(wanted),
  ]
  return a.os === b.os && a.architecture === b.architecture && (b.variant === undefined || a.variant === b.variant)
}

/** Of several the one for `wanted`; of variants that would all do, the one that is meant. */
export function bestFor<T extends { readonly platform: Platform }>(
  candidates: readonly T[],
  wanted: Platform,
): T | undefined {
  const matching = candidates.filter(({ platform }) => matchesPlatform(platform, wanted))
  return matching.find(({ platform }) => matchesPlatform(wanted, platform)) ?? matching[0]
}

const ALIASES: Readonly<Record<string, readonly [architecture: string, variant?: string]>> = {
  x86_64: ['amd64'],
  'x86-64': ['amd64'],
  i386: ['386'],
  i686: ['386'],
  aarch64: ['arm64'],
  armhf: ['arm', 'v7'],
  armel: ['arm', 'v6'],
}
/** The variant that is meant where none is given (containerd, platforms/database.go). */
const USUAL: Readonly<Record<string, string>> = { arm64: 'v8', amd64: 'v1' }

function normal({ os, architecture, variant }: Platform): Platform {
  const [name, implied] = ALIASES[architecture] ?? [architecture]
  const given = variant || implied
  return { os, architecture: name, ...(given === undefined || given === USUAL[name] ? {} : { variant: given }) }
}

import { Growth } from './growth.js'
import { readHealthcheck, type Healthcheck } from './healthcheck.js'
import { readInstructions, type Instruction } from './instructions.js'
import { expand, splitWords, WordError } from './words.js'
import { commandOf, jsonWords } from './commands.js'
import { isSignal } from './signals.js'
import { StrataError } from '@strata/base'
import { MAX_JSON_BYTES } from '@strata/oci'

/**
 * The part of an image's config that says what a container runs (image-spec, config.md, `config`;
 * docker's own: `Healthcheck`, `OnBuild`). A field that nothing has set is absent.
 */
export interface RunConfig {
  readonly User?: string
  readonly ExposedPorts?: Readonly<Record<string, object>>
  readonly Env?: readonly string[]
  readonly Entrypoint?: readonly string[]
  readonly Cmd?: readonly string[]
  readonly Healthcheck?: Healthcheck
  readonly Volumes?: Readonly<Record<string, object>>
  readonly WorkingDir?: string
  readonly Labels?: Readonly<Record<string, string>>
  readonly OnBuild?: readonly string[]
  readonly StopSignal?: string
}

/**
 * Applies changes in Dockerfile syntax to an empty config, as `docker import --change` and
 * `docker commit --change` do. A change may have several lines. Later ones see the variables that
 * earlier ones set.
 * @throws StrataError `bad_request`, which names the instruction; `limit_exceeded` if the changes
 * expand to more than an image's JSON may have
 */
export function applyChanges(changes: readonly string[]): RunConfig {
  const draft = new Draft()
  for (const change of changes) for (const instruction of readInstructions(change)) draft.apply(instruction)
  return draft.config()
}

type Change = (rest: string, flags: readonly string[]) => void

class Draft {
  readonly #growth = new Growth(MAX_JSON_BYTES)
  #user: string | undefined
  readonly #env = new Map<string, string>()
  readonly #labels = new Map<string, string>()
  readonly #ports = new Set<string>()
  readonly #volumes = new Set<string>()
  readonly #onBuild: string[] = []
  #entrypoint: readonly string[] | undefined
  #cmd: readonly string[] | undefined
  #healthcheck: Healthcheck | undefined
  #workdir: string | undefined
  #stopSignal: string | undefined

  readonly #changes = new Map<string, Change>([
    ['CMD', (rest) => (this.#cmd = commandOf(rest))],
    ['ENTRYPOINT', (rest) => (this.#entrypoint = commandOf(rest))],
    ['ENV', (rest) => this.#assign('ENV', this.#env, rest)],
    [
      'EXPOSE',
      (rest) =>
        rest
          .split(/\s+/)
          .flatMap((word) => splitWords(this.#expanded(word)))
          .forEach((port) => this.#expose(port)),
    ],
    ['HEALTHCHECK', (rest, flags) => (this.#healthcheck = readHealthcheck(rest, flags))],
    ['LABEL', (rest) => this.#assign('LABEL', this.#labels, rest)],
    ['ONBUILD', (rest) => this.#onBuild.push(triggerOf(rest))],
    ['STOPSIGNAL', (rest) => (this.#stopSignal = this.#signal(this.#expanded(rest)))],
    ['USER', (rest) => (this.#user = this.#expanded(rest))],
    ['VOLUME', (rest) => (jsonWords(rest) ?? rest.split(/\s+/)).forEach((path) => this.#volume(this.#expanded(path)))],
    ['WORKDIR', (rest) => (this.#workdir = resolveFolder(this.#workdir, this.#expanded(rest)))],
  ])

  apply({ name, rest, flags }: Instruction): void {
    const change = this.#changes.get(name)
    if (!change)
      throw new StrataError(
        'bad_request',
        `${name} is not a valid change command: those are ${[...this.#changes.keys()].join(', ')}`,
      )
    try {
      const [flag] = flags
      if (flag !== undefined && name !== 'HEALTHCHECK') throw new WordError(`unknown flag: ${flag.split('=', 1)[0]!}`)
      if (rest === '') throw new WordError(`${name} requires at least one argument`)
      change(rest, flags)
    } catch (error) {
      if (error instanceof WordError)
        throw new StrataError(
          'bad_request',
          `the change ${JSON.stringify(`${name} ${rest}`.trimEnd().slice(0, 200))} is not valid: ${error.message}`,
        )
      throw error
    }
  }

  config(): RunConfig {
    const user = this.#user
    const env = this.#env
    const labels = this.#labels
    const ports = this.#ports
    const volumes = this.#volumes
    const onBuild = this.#onBuild
    const entrypoint = this.#entrypoint
    const cmd = this.#cmd
    const healthcheck = this.#healthcheck
    const workdir = this.#workdir
    const stopSignal = this.#stopSignal
    return {
      ...(user === undefined ? {} : { User: user }),
      ...(ports.size === 0 ? {} : { ExposedPorts: setOf(ports) }),
      ...(env.size === 0 ? {} : { Env: [...env].map(([name, value]) => `${name}=${value}`) }),
      ...(entrypoint === undefined ? {} : { Entrypoint: entrypoint }),
      ...(cmd === undefined ? {} : { Cmd: cmd }),
      ...(healthcheck === undefined ? {} : { Healthcheck: healthcheck }),
      ...(volumes.size === 0 ? {} : { Volumes: setOf(volumes) }),
      ...(workdir === undefined ? {} : { WorkingDir: workdir }),
      ...(labels.size === 0 ? {} : { Labels: Object.fromEntries([...labels].sort(([a], [b]) => (a < b ? -1 : 1))) }),
      ...(onBuild.length === 0 ? {} : { OnBuild: onBuild }),
      ...(stopSignal === undefined ? {} : { StopSignal: stopSignal }),
    }
  }

  /** The values that one instruction sets are visible to the next one, not to itself. */
  #assign(name: 'ENV' | 'LABEL', to: Map<string, string>, rest: string): void {
    const pairs = pairsOf(name, rest).map(([key, value]) => [this.#expanded(key), this.#expanded(value)] as const)
    for (const [key, value] of pairs) {
      if (key === '') throw new WordError(`${name} names can not be blank`)
      if (name === 'ENV' && key.includes('=')) throw new WordError(`${name} names can not hold =`)
      to.set(key, value)
    }
  }

  #expose(port: string): void {
    const [, first, last, protocol = 'tcp'] = /^(\d{1,5})(?:-(\d{1,5}))?(?:\/(tcp|udp|sctp))?$/i.exec(port) ?? []
    const [from, to] = [Number(first), Number(last ?? first)]
    if (!(from >= 1 && from <= to && to <= 65_535)) throw new WordError(`invalid containerPort: ${port}`)
    // The characters of `65535/sctp` and of the JSON around it.
    this.#growth.take(16 * (to - from + 1))
    for (let number = from; number <= to; number++) this.#ports.add(`${number}/${protocol.toLowerCase()}`)
  }

  #volume(path: string): void {
    if (path.trim() === '') throw new WordError('VOLUME specified can not be an empty string')
    this.#volumes.add(path.trim())
  }

  #signal(text: string): string {
    if (!isSignal(text)) throw new WordError(`invalid signal: ${text}`)
    return text
  }

  #expanded(word: string): string {
    const result = expand(word, this.#env, this.#growth)
    if (result.includes('\0')) throw new WordError('it holds a NUL')
    return result
  }
}

/**
 * Reads `a=b c="d e"`, or the old form `a b c`, in which everything after the first space is one
 * value. The first word shows which form it is.
 */
function pairsOf(name: string, rest: string): [string, string][] {
  const words = splitWords(rest)
  if (!words[0]!.includes('=')) {
    const space = rest.search(/\s/)
    if (space < 0) throw new WordError(`${name} must have two arguments`)
    return [[rest.slice(0, space), rest.slice(space).trimStart()]]
  }
  return words.map((word) => {
    const equals = word.indexOf('=')
    if (equals < 0) throw new WordError(`can't find = in ${JSON.stringify(word)}. Must be of the form: name=value`)
    return [word.slice(0, equals), word.slice(equals + 1)]
  })
}

function triggerOf(rest: string): string {
  const [trigger = ''] = rest.toUpperCase().split(/\s/, 1)
  if (trigger === 'ONBUILD') throw new WordError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
  if (trigger === 'MAINTAINER' || trigger === 'FROM')
    throw new WordError(`${trigger} isn't allowed as an ONBUILD trigger`)
  return rest
}

/** A relative path starts at the working directory that was set before. */
function resolveFolder(before: string | undefined, path: string): string {
  if (path === '') throw new WordError('cannot normalize nothing')
  if (path.startsWith('/')) return path
  const parts: string[] = []
  for (const part of `${before ?? ''}/${path}`.split('/')) {
    if (part === '..') parts.pop()
    else if (part !== '' && part !== '.') parts.push(part)
  }
  return `/${parts.join('/')}`
}

/** Sorted, as Go writes a map. */
function setOf(keys: ReadonlySet<string>): Record<string, object> {
  return Object.fromEntries([...keys].sort().map((key) => [key, {}]))
}

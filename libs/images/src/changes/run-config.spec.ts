import { StrataError } from '@strata/base'
import { describe, expect, it } from 'vitest'
import { applyChanges, type RunConfig } from './index.js'

describe('changes', () => {
  const good: [change: string | string[], config: RunConfig][] = [
    [[], {}],
    ['CMD ["/bin/sh", "-c", "echo $A \\u0041"]', { Cmd: ['/bin/sh', '-c', 'echo $A A'] }],
    ['cmd echo "a  b" $HOME', { Cmd: ['/bin/sh', '-c', 'echo "a  b" $HOME'] }],
    ['CMD []', { Cmd: [] }],
    ['CMD [ -f /x ] && y', { Cmd: ['/bin/sh', '-c', '[ -f /x ] && y'] }],
    ["CMD ['a']", { Cmd: ['/bin/sh', '-c', "['a']"] }],
    [['CMD a', 'ENTRYPOINT ["b"]', 'CMD ["c"]'], { Entrypoint: ['b'], Cmd: ['c'] }],
    ['ENTRYPOINT exec top', { Entrypoint: ['/bin/sh', '-c', 'exec top'] }],
    ['  \t ENV  a=b  ', { Env: ['a=b'] }],
    [
      'ENV a=1 b="2 3" c=4\\ 5 d=\'6 $a\' e="a\\"b" f=\\$a',
      { Env: ['a=1', 'b=2 3', 'c=4 5', 'd=6 $a', 'e=a"b', 'f=$a'] },
    ],
    ['ENV a=b=c d=', { Env: ['a=b=c', 'd='] }],
    ['ENV a b c', { Env: ['a=b c'] }],
    ['ENV ONE TWO= THREE=world', { Env: ['ONE=TWO= THREE=world'] }],
    ['ENV a "b  c"', { Env: ['a=b  c'] }],
    [['ENV abc=hello', 'ENV abc=bye def=$abc', 'ENV ghi=$abc'], { Env: ['abc=bye', 'def=hello', 'ghi=bye'] }],
    [
      [
        'ENV A=1 E=',
        'ENV b=${A}x c=${A:-2} d=${Z:-2} e=${Z-2} f=${E-2} g=${E:-2} h=${A:+3} i=${Z:+3} j=${E+3} k=${E:+3} l=x${Z:-"a $A"}y',
      ],
      { Env: ['A=1', 'E=', 'b=1x', 'c=1', 'd=2', 'e=2', 'f=', 'g=2', 'h=3', 'i=', 'j=3', 'k=', 'l=xa 1y'] },
    ],
    ['ENV a=$ b=a$ c=$/x d="$" e=$1x f=é$É', { Env: ['a=$', 'b=a$', 'c=$/x', 'd=$', 'e=x', 'f=é$É'] }],
    ['ENV PATH=/x:$PATH', { Env: ['PATH=/x:'] }],
    ['ENV a="x\\ny" b=\\n c=\'\\\'', { Env: ['a=x\\ny', 'b=n', 'c=\\'] }],
    ['ENV a="b"c\'d\'', { Env: ['a=bcd'] }],
    ['ENV __proto__=x', { Env: ['__proto__=x'] }],
    [
      'EXPOSE 80 443/tcp 53/UDP 8000-8002 80',
      { ExposedPorts: { '443/tcp': {}, '53/udp': {}, '80/tcp': {}, '8000/tcp': {}, '8001/tcp': {}, '8002/tcp': {} } },
    ],
    [['ENV P="80 81"', 'EXPOSE $P'], { Env: ['P=80 81'], ExposedPorts: { '80/tcp': {}, '81/tcp': {} } }],
    ['HEALTHCHECK NONE', { Healthcheck: { Test: ['NONE'] } }],
    [
      'HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=1.5s --start-interval=2s --retries=3 CMD curl -f http://localhost/',
      {
        Healthcheck: {
          Test: ['CMD-SHELL', 'curl -f http://localhost/'],
          Interval: 90e9,
          Timeout: 5e8,
          StartPeriod: 15e8,
          StartInterval: 2e9,
          Retries: 3,
        },
      },
    ],
    ['healthcheck cmd ["a", "b"]', { Healthcheck: { Test: ['CMD', 'a', 'b'] } }],
    ['HEALTHCHECK --interval=0 CMD x', { Healthcheck: { Test: ['CMD-SHELL', 'x'], Interval: 0 } }],
    ['LABEL b=2 a="x y" "c d"=e', { Labels: { a: 'x y', b: '2', 'c d': 'e' } }],
    ['LABEL version 1.0 beta', { Labels: { version: '1.0 beta' } }],
    ['ONBUILD RUN  echo   $X', { OnBuild: ['RUN  echo   $X'] }],
    [['ONBUILD COPY . /', 'ONBUILD CMD ["x"]'], { OnBuild: ['COPY . /', 'CMD ["x"]'] }],
    ['STOPSIGNAL SIGKILL', { StopSignal: 'SIGKILL' }],
    ['STOPSIGNAL 9', { StopSignal: '9' }],
    ['STOPSIGNAL RTMIN+3', { StopSignal: 'RTMIN+3' }],
    ['USER 1000:1000', { User: '1000:1000' }],
    [['ENV U=web', 'USER ${U}:staff'], { Env: ['U=web'], User: 'web:staff' }],
    ['VOLUME /b /a', { Volumes: { '/a': {}, '/b': {} } }],
    ['VOLUME ["/a b", "/c"]', { Volumes: { '/a b': {}, '/c': {} } }],
    ['WORKDIR /a b/', { WorkingDir: '/a b/' }],
    [['WORKDIR a', 'WORKDIR b/./c', 'WORKDIR ../../d'], { WorkingDir: '/a/d' }],
    ['WORKDIR ../../..', { WorkingDir: '/' }],
    ['ENV a=1 \\\n  # a comment\n\n  b=2\r\nLABEL c=3', { Env: ['a=1', 'b=2'], Labels: { c: '3' } }],
    ['CMD a \\', { Cmd: ['/bin/sh', '-c', 'a'] }],
  ]
  it.each(good)('%j', (change, config) => {
    const made = applyChanges([change].flat())
    expect(made).toEqual(config)
    expect(JSON.stringify(made.ExposedPorts ?? made.Labels ?? {})).toBe(
      JSON.stringify(config.ExposedPorts ?? config.Labels ?? {}),
    )
  })

  it('a label may have any name', () => {
    expect(JSON.stringify(applyChanges(['LABEL __proto__=x constructor=y']))).toBe(
      '{"Labels":{"__proto__":"x","constructor":"y"}}',
    )
  })

  const bad: [change: string, sentence: RegExp][] = [
    ['', /a change is empty/],
    ['# only a comment', /a change is empty/],
    ['RUN true', /^RUN is not a valid change command: those are CMD, ENTRYPOINT, ENV/],
    ['FROM x', /^FROM is not a valid change command/],
    ['constructor x', /^CONSTRUCTOR is not a valid change command/],
    ...[
      'CMD',
      'ENTRYPOINT',
      'ENV',
      'EXPOSE',
      'HEALTHCHECK',
      'LABEL',
      'ONBUILD',
      'STOPSIGNAL',
      'USER',
      'VOLUME',
      'WORKDIR',
    ].map((name): [string, RegExp] => [`${name} `, new RegExp(`${name} requires at least one argument`)]),
    ['CMD --x y', /unknown flag: --x$/],
    ['CMD [1]', /arrays must be comprised of strings only/],
    ['CMD ["a\\u0000"]', /holds a NUL/],
    ['ENV a', /ENV must have two arguments/],
    ['ENV a=1 b', /can't find = in "b"\. Must be of the form: name=value/],
    ['ENV =b', /ENV names can not be blank/],
    ['LABEL ""=b', /LABEL names can not be blank/],
    ['ENV "a=b"=c d', /can't find = in "d"/],
    ["ENV a='b", /matching single-quote/],
    ['ENV a="b', /matching double-quote/],
    ['ENV a=${b', /matching }/],
    ['ENV a=${b:-c', /matching }/],
    ['ENV a=${}', /bad substitution/],
    ['ENV a="${b:?give it}"', /b: give it/],
    ['ENV a=${b%c}', /unsupported modifier \(%\) in substitution/],
    ['EXPOSE 0', /invalid containerPort: 0/],
    ['EXPOSE 65536', /invalid containerPort/],
    ['EXPOSE 9-8', /invalid containerPort/],
    ['EXPOSE 80/icmp', /invalid containerPort/],
    ['EXPOSE 8080:80', /invalid containerPort/],
    ['HEALTHCHECK NONE x', /HEALTHCHECK NONE takes no arguments/],
    ['HEALTHCHECK CMD', /Missing command after HEALTHCHECK CMD/],
    ['HEALTHCHECK CMD []', /Missing command/],
    ['HEALTHCHECK curl x', /Unknown type "curl" in HEALTHCHECK \(try CMD\)/],
    ['HEALTHCHECK --interval=1 CMD x', /invalid duration "1" of --interval/],
    ['HEALTHCHECK --interval=1us CMD x', /--interval cannot be less than 1ms/],
    ['HEALTHCHECK --retries=-1 CMD x', /--retries must be a number/],
    ['HEALTHCHECK --toString=1s CMD x', /unknown flag: --toString/],
    ['ONBUILD ONBUILD RUN x', /Chaining ONBUILD/],
    ['ONBUILD from x', /FROM isn't allowed as an ONBUILD trigger/],
    ['STOPSIGNAL SIGNOTHING', /invalid signal: SIGNOTHING/],
    ['STOPSIGNAL 65', /invalid signal: 65/],
    ['VOLUME [""]', /VOLUME specified can not be an empty string/],
    ['WORKDIR $X', /cannot normalize nothing/],
    ['USER a\0b', /holds a NUL/],
  ]
  it.each(bad)('%j is refused', (change, sentence) => {
    const refusal = (): unknown => applyChanges([change])
    expect(refusal).toThrow(sentence)
    expect(refusal).toThrow(expect.objectContaining({ code: 'bad_request' }) as StrataError)
  })

  it('substitutions inside each other are bounded', () => {
    const nested = (count: number): string => `ENV a=${'${b:-'.repeat(count)}x${'}'.repeat(count)}`
    expect(applyChanges([nested(100)])).toEqual({ Env: ['a=x'] })
    for (const count of [101, 20_000])
      expect(() => applyChanges([nested(count)])).toThrow(/more than 100 substitutions inside each other/)
  })

  const doubled = (line: string): string[] => ['ENV A=0123456789', ...Array<string>(40).fill(line)]
  it.each<[what: string, changes: string[]]>([
    ['a variable', doubled('ENV A=$A$A')],
    ['a variable in braces', doubled('ENV A=${A}${A}')],
    ['a variable with another word', doubled('ENV A=${A:-x}${A:-x}')],
    ['a word for a variable', doubled('ENV A=${A:+$A$A}')],
    ['a quoted variable', doubled('ENV A="$A$A"')],
    [
      'a label, by its name and value',
      [...doubled('ENV A=$A$A').slice(0, 18), ...Array.from({ length: 10 }, (_, n) => `LABEL $A${n}=$A$A`)],
    ],
    ['a user', [...doubled('ENV A=$A$A').slice(0, 18), ...Array<string>(10).fill('USER $A$A')]],
    [
      'volumes',
      [...doubled('ENV A=$A$A').slice(0, 18), ...Array.from({ length: 10 }, (_, n) => `VOLUME /${n}$A /${n}$A$A`)],
    ],
    ['a working directory', [...doubled('ENV A=$A$A').slice(0, 18), ...Array<string>(10).fill('WORKDIR $A$A')]],
    ['ranges of ports', Array<string>(200).fill('EXPOSE 1-65535')],
    ['ranges of ports in a variable', [`ENV P="${'1-65535 '.repeat(200)}"`, 'EXPOSE $P']],
  ])('what grows without end is refused before it is made: %s', (_what, changes) => {
    expect(() => applyChanges(changes)).toThrow(
      expect.objectContaining({
        code: 'limit_exceeded',
        message: 'the changes expand to more than 4194304 characters',
      }) as StrataError,
    )
  })

  it('every port, by each protocol, is within the limit', () => {
    expect(Object.keys(applyChanges(['EXPOSE 1-65535 1-65535/udp 1-65535/sctp']).ExposedPorts!)).toHaveLength(
      3 * 65_535,
    )
  })

  it('ends, in one way or the other, for any text', () => {
    const parts = [
      'ENV ',
      'LABEL ',
      'CMD ',
      'HEALTHCHECK --interval=',
      'EXPOSE ',
      'a',
      '=',
      '"',
      "'",
      '\\',
      '$',
      '{',
      '}',
      ':-',
      '[',
      ']',
      ' ',
      '\n',
      '#',
      '80',
      '-',
      '/',
      'é',
      '\u0001',
    ]
    let seed = 1
    const next = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below
    for (let n = 0; n < 20_000; n++) {
      const text = Array.from({ length: next(12) }, () => parts[next(parts.length)]).join('')
      try {
        JSON.stringify(applyChanges([text]))
      } catch (error) {
        if (!(error instanceof StrataError && error.code === 'bad_request'))
          expect.unreachable(`${JSON.stringify(text)}: ${String(error)}`)
      }
    }
  })
})

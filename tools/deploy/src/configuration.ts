import { SERVICES, standaloneConfigSchema } from '@strata/standalone'
import { serviceConfigShape } from '@strata/platform'
import { storeConfigShape } from '@strata/store'
import { z } from 'zod'
import { CONFIGS, fieldsOf } from './services.js'

/** The CLI has no schema: it reads these as they are. */
const CLI_ROWS = [
  [
    'STRATA_HOST',
    '`unix:///run/strata/strata.sock`',
    'Where the service answers: unix:///SOCKET, http://HOST:PORT or https://HOST:PORT',
  ],
  [
    'STRATA_TLS_CA',
    'those that Node.js brings',
    'File of the certificates (PEM) that may vouch for an https:// host, and no others: `/etc/ssl/certs/ca-certificates.crt` for those of the system',
  ],
  [
    'STRATA_TOKEN',
    'on a loopback address and `localhost` what the file of STRATA_TOKEN_FILE says (`/var/lib/strata/token`)',
    'The token of a TCP listener',
  ],
]

/**
 * docs/configuration.md, all of it: from the schemas that the services check their environment
 * with.
 */
export function configurationDocument(): string {
  const standalone = new Map(fieldsOf(standaloneConfigSchema))
  const inAll = new Set(Object.keys({ ...serviceConfigShape, ...storeConfigShape }))
  const own = SERVICES.map((service) => ({
    service,
    rows: fieldsOf(CONFIGS[service])
      .filter(([name]) => !inAll.has(name))
      .map(row),
  }))
  return [
    '# Configuration',
    '',
    '<!-- Made from the schemas in apps/*/src/config.ts by tools/deploy: change it there, then `npm run docs -w @strata/deploy`. -->',
    '',
    'Services are configured by environment variables, read once, at the start. An empty variable counts as none. All that is wrong is told at once, a line for each variable, and the service does not',
    'start; a name that begins with `STRATA_` and is no variable of any service is wrong too. `strata gateway --help` (and so on) prints the variables of one service.',
    '',
    'Secrets are named by files only (`…_FILE`), `STRATA_S3_SECRET_KEY` excepted. A secret has at least 16 characters; white space around it does not count: `openssl rand -hex 32 > FILE`.',
    '',
    '## Every service',
    '',
    ...table(fieldsOf(z.object(serviceConfigShape)).map(row)),
    '',
    'Where the objects are:',
    '',
    ...table(fieldsOf(z.object(storeConfigShape)).map(row)),
    ...own.flatMap(({ service, rows }) => [
      '',
      `## \`strata ${service}\``,
      '',
      ...(rows.length > 0 ? table(rows) : ['Nothing else.']),
    ]),
    '',
    '## `strata up`',
    '',
    'All services, or some, in one process on one machine. It takes the variables of all of them; what is not set follows from the data folder:',
    '',
    ...table([...standalone].map(row)),
    '',
    '| variable | follows from |',
    '| --- | --- |',
    '| `STRATA_REDIS` | a private redis-server, on a socket in `<data>/redis` |',
    '| `STRATA_STORE` | `<data>/store` |',
    '| `STRATA_NODE` | `n` and 8 hex digits, from the path of the data folder |',
    '| `STRATA_NODE_FOLDER` | `<data>/node` |',
    '| `STRATA_RUN_FOLDER` | `/run/strata/<node>` |',
    '| `STRATA_TOKEN_FILE`, `STRATA_NODE_SECRET_FILE` | `<data>/token`, `<data>/node-secret`; made at the first start |',
    '',
    '## The command line',
    '',
    ...table(CLI_ROWS.map(([name, absent, meaning]) => `| \`${name!}\` | ${absent!} | ${meaning!} |`)),
    '',
  ].join('\n')
}

function table(rows: readonly string[]): string[] {
  return ['| variable | if it is not set | |', '| --- | --- | --- |', ...rows]
}

function row([name, field]: readonly [string, z.ZodType]): string {
  // As one would write it, where that is not what it comes to (1h and 3600000).
  const written: unknown = z.toJSONSchema(field, { io: 'input', unrepresentable: 'any' }).default
  const absent = field.safeParse(undefined)
  const value = !absent.success
    ? '**needed**'
    : absent.data === undefined
      ? ''
      : `\`${typeof written === 'string' ? written : JSON.stringify(absent.data)}\``
  return `| \`${name}\` | ${value} | ${field.description ?? ''} |`
}

import type { Command } from 'commander'
import { ask, secretFromStdin } from '../ask.js'
import type { Context } from '../context.js'
import { keyOf, serverHost } from '../credentials/server.js'
import { CliError } from '../errors.js'
import { complain, note, print } from '../terminal.js'

interface LoginOptions {
  readonly username?: string
  readonly password?: string
  readonly passwordStdin?: boolean
  readonly insecure?: boolean
}

/** `login` and `logout`, with docker's words: both tools share their logins. */
export function loginCommands(program: Command, context: Context): void {
  program
    .command('login')
    .description("log in to a registry; docker's configuration keeps the login")
    .argument('[server]', 'the host of the registry; Docker Hub without one')
    .option('-u, --username <name>', 'the user name')
    .option('-p, --password <password>', 'the password, or a token in its place; every user of this machine sees it')
    .option('--password-stdin', 'read the password from stdin')
    .option('--insecure', 'the registry may answer by HTTP, or with a certificate that nobody vouches for')
    .action((server: string | undefined, options: LoginOptions) => login(context, serverHost(server), options))

  program
    .command('logout')
    .description('forget the login for a registry')
    .argument('[server]', 'the host of the registry; Docker Hub without one')
    .action(async (server: string | undefined) => {
      const host = serverHost(server)
      const { Logins } = await import('../credentials/logins.js')
      const logins = new Logins(context.environment)
      print(`Removing login credentials for ${keyOf(host)}`)
      await logins.erase(host).catch((error: unknown) => {
        if (!(error instanceof CliError)) throw error
        note(`WARNING: could not erase credentials:\n${keyOf(host)}: ${error.message}`)
      })
    })
}

async function login(context: Context, host: string, options: LoginOptions): Promise<void> {
  checkOptions(options)
  const [{ Logins }, { checkLogin }] = await Promise.all([
    import('../credentials/logins.js'),
    import('../login/check.js'),
  ])
  const logins = new Logins(context.environment)
  const { insecure } = options
  const known = options.username === undefined && options.password === undefined ? await logins.find(host) : undefined
  if (known?.username && known.password) {
    note(`Authenticating with existing credentials... [Username: ${known.username}]`)
    note("To login with a different account, run 'strata logout' followed by 'strata login'")
    try {
      await checkLogin(host, { username: known.username, password: known.password }, insecure)
      return print('Login Succeeded')
    } catch (error) {
      if (!(error instanceof CliError)) throw error
      complain(`Login did not succeed, error: ${error.message}`)
    }
  }
  const { username, password } = await credentials(options, known?.username)
  const token = await checkLogin(host, { username, password }, insecure)
  const isPlain = await logins.store(host, token ? { username, identitytoken: token } : { username, password })
  if (isPlain && !token)
    note(
      `\nWARNING! Your credentials are stored unencrypted in '${logins.path}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n`,
    )
  print('Login Succeeded')
}

function checkOptions({ username, password, passwordStdin }: LoginOptions): void {
  if (passwordStdin && password !== undefined)
    throw new CliError('conflicting options: cannot specify both --password and --password-stdin')
  if (passwordStdin && username === undefined)
    throw new CliError('the --password-stdin option requires --username to be set')
  if (username?.trim() === '') throw new CliError('username is empty')
  if (password === '') throw new CliError('password is empty')
  if (password !== undefined) note('WARNING! Using --password via the CLI is insecure. Use --password-stdin.')
}

/** Takes name and password from the options. Asks the user for what they lack. */
async function credentials(
  options: LoginOptions,
  known: string | undefined,
): Promise<{ username: string; password: string }> {
  if (options.passwordStdin) {
    const password = await secretFromStdin()
    if (password.trim() === '') throw new CliError('password is empty')
    return { username: (options.username ?? '').trim(), password }
  }
  const isComplete = options.username !== undefined && options.password !== undefined
  if (!isComplete && !process.stdin.isTTY)
    throw new CliError('cannot perform an interactive login from a non-TTY device: -u USER --password-stdin')
  const question = known === undefined ? 'Username: ' : `Username (${known}): `
  const username = (options.username ?? ((await ask(question)).trim() || known) ?? '').trim()
  if (username === '') throw new CliError('username is required')
  const password = options.password ?? (await ask('Password: ', true))
  if (password === '') throw new CliError('password is required')
  return { username, password }
}

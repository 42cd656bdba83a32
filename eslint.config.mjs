import js from '@eslint/js'
import stylistic from '@stylistic/eslint-plugin'
import nx from '@nx/eslint-plugin'
import { createProjectGraphAsync } from 'nx/src/devkit-exports.js'
import tseslint from 'typescript-eslint'

/**
 * Who may import whom: docs/architecture.md draws it, this rule keeps it true. Scopes are the
 * `nx.tags` of each package.json.
 */
const may = {
  base: [],
  oci: ['base'],
  linux: [],
  erofs: ['linux'],
  archive: ['base', 'oci'],
  layers: ['base', 'oci', 'archive'],
  store: ['base', 'oci', 'linux'],
  images: ['base', 'oci', 'store'],
  intake: ['base', 'oci', 'archive', 'layers', 'store', 'linux'],
  snapshots: ['base', 'oci', 'layers', 'erofs', 'linux', 'archive'],
  containers: ['base', 'oci', 'linux'],
  remote: ['base', 'oci'],
  queue: ['base', 'oci', 'api'],
  api: ['base', 'oci'],
  platform: ['base', 'oci'],
  gateway: ['base', 'oci', 'linux', 'api', 'archive', 'layers', 'intake', 'images', 'store', 'queue', 'platform'],
  ingest: ['base', 'oci', 'archive', 'images', 'remote', 'store', 'queue', 'platform'],
  extractor: ['base', 'oci', 'archive', 'layers', 'store', 'linux', 'queue', 'platform'],
  storage: ['base', 'oci', 'images', 'store', 'queue', 'platform'],
  runtime: [
    'base',
    'oci',
    'api',
    'archive',
    'layers',
    'snapshots',
    'containers',
    'linux',
    'store',
    'images',
    'queue',
    'platform',
  ],
  standalone: ['base', 'oci', 'platform', 'queue', 'linux', 'gateway', 'ingest', 'extractor', 'storage', 'runtime'],
  cli: ['base', 'oci', 'api'],
}
/** Tools see everything; nothing sees them. */
may.tools = Object.keys(may)
// The boundary rule reads Nx's cached graph and skips itself, with a warning only, where there is
// none. Within an Nx task the graph is fresh already.
if (!process.env['NX_TASK_TARGET_PROJECT']) await createProjectGraphAsync()

/** Prettier does not break comments and strings: docs/style.md says how wide they are. */
const WIDTHS = {
  plugins: { '@stylistic': stylistic },
  rules: {
    '@stylistic/max-len': [
      'error',
      {
        code: 120,
        comments: 100,
        ignoreUrls: true,
        ignoreStrings: true,
        ignoreTemplateLiterals: true,
        ignoreRegExpLiterals: true,
        // Rows of tables and of drawn layouts in a comment.
        ignorePattern: '^ *(/?\\* +(\\||  |\\S+ {3})|// {3})',
      },
    ],
  },
}

/**
 * One form for what is private: `#name`. A constructor's parameter has no such form, and keeps
 * `private`.
 */
const PRIVATE_MEMBERS = {
  selector: ':matches(PropertyDefinition, MethodDefinition[kind!="constructor"])[accessibility=/private|protected/]',
  message: 'Write `#name` for a private member; `private` is for parameters of a constructor, and for constructors.',
}

const NEST = ['@nestjs/*', '@nestjs/*/*', 'bullmq', 'ioredis']

export default tseslint.config(
  {
    ignores: [
      '**/dist/**',
      '**/node_modules/**',
      '**/.test-results/**',
      '**/vitest.config.ts',
      'apps/cli/bin/strata.mjs',
    ],
  },
  WIDTHS,
  { files: ['**/*.ts'], extends: [js.configs.recommended, ...tseslint.configs.strictTypeChecked] },
  {
    files: ['**/*.ts'],
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    languageOptions: {
      parserOptions: { project: [`${import.meta.dirname}/tsconfig.lint.json`], tsconfigRootDir: import.meta.dirname },
    },
    plugins: { '@nx': nx },
    rules: {
      'no-restricted-syntax': ['error', PRIVATE_MEMBERS],
      '@nx/enforce-module-boundaries': [
        'error',
        {
          enforceBuildableLibDependency: false,
          allow: [],
          depConstraints: Object.entries(may).map(([scope, libs]) => ({
            sourceTag: `scope:${scope}`,
            onlyDependOnLibsWithTags: [`scope:${scope}`, ...libs.map((lib) => `scope:${lib}`)],
          })),
        },
      ],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-extraneous-class': ['error', { allowWithDecorator: true }],
      '@typescript-eslint/no-confusing-void-expression': 'off',
      // Nest declares the shapes of its options as classes.
      '@typescript-eslint/no-unsafe-class-instance-assignment': 'off',
      // `#json<T>()` of the CLI says what the caller expects of an answer.
      '@typescript-eslint/no-unnecessary-type-parameters': 'off',
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/consistent-type-imports': 'off',
    },
  },
  {
    // Domain libraries are plain TypeScript: usable without the framework and without Redis.
    files: Object.keys(may)
      .filter((scope) => !['queue', 'platform'].includes(scope))
      .map((lib) => `libs/${lib}/**/*.ts`),
    rules: {
      'no-restricted-imports': [
        'error',
        { patterns: [{ group: NEST, message: 'Nest and Redis live in apps, libs/platform and libs/queue.' }] },
      ],
    },
  },
)

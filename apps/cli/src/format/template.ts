import { type Expression, type Node, type Pipeline, nodesOf } from './parse-template.js'
import { FUNCTIONS } from './template-functions.js'
import { fieldOf, isTrue, textOf, wrong } from './template-values.js'

/*
 * The part of Go's text/template that scripts use with docker's `--format`
 * (https://docs.docker.com/engine/cli/formatting, https://pkg.go.dev/text/template):
 *
 *     {{.Repository}}:{{.Tag}}   {{.State.Status}}   {{json .}}   {{.RepoTags | json}}
 *     {{range .RepoTags}}{{println .}}{{else}}none{{end}}   {{range $i, $tag := .RepoTags}}…{{end}}
 *     {{if eq .State "running"}}…{{else if .X}}…{{else}}…{{end}}
 *     {{with .Config}}…{{end}}
 *     {{index .Labels "a"}}   {{$x := .Id}}   {{- .X -}}   {{/* nothing *\/}}
 *
 * Left out are `define`, `template`, `block`, `break`, `continue`: no line of a script has them.
 */

/**
 * @returns what a template makes of a value. Both throw only CliErrors: for a template that is not
 * one, asks for what is not there, or is too deep or too long for the engine
 */
export function parseTemplate(source: string): (value: unknown) => string {
  const nodes = withinBounds(() => nodesOf(source))
  return (value) => withinBounds(() => render(nodes, new Scope(value)))
}

/** The engine says by RangeError that the stack is full or a string too long. */
function withinBounds<T>(make: () => T): T {
  try {
    return make()
  } catch (error) {
    if (error instanceof RangeError) return wrong('it is nested too deep, or its output is too long')
    throw error
  }
}

/** The dot, and the variables around it. */
class Scope {
  readonly #variables: Map<string, unknown>
  constructor(
    readonly dot: unknown,
    outer?: Scope,
  ) {
    this.#variables = new Map(outer ? outer.#variables : [['$', dot]])
  }
  get(name: string): unknown {
    return this.#variables.has(name) ? this.#variables.get(name) : wrong(`undefined variable ${name}`)
  }
  set(name: string, value: unknown): void {
    this.#variables.set(name, value)
  }
}

function render(nodes: readonly Node[], scope: Scope): string {
  let out = ''
  for (const node of nodes) {
    if (node.kind === 'text') out += node.text
    else if (node.kind === 'range') out += renderRange(node, scope)
    else {
      const { variables, expression } = node.pipeline
      const value = evaluate(expression, scope)
      const inner = node.kind === 'action' ? scope : new Scope(node.kind === 'with' ? value : scope.dot, scope)
      for (const name of variables) inner.set(name, value)
      if (node.kind !== 'action') out += isTrue(value) ? render(node.then, inner) : render(node.otherwise, scope)
      else if (variables.length === 0) out += textOf(value)
    }
  }
  return out
}

function renderRange(
  { pipeline, then, otherwise }: Extract<Node, { pipeline: Pipeline; then: unknown }>,
  scope: Scope,
): string {
  const value = evaluate(pipeline.expression, scope)
  const entries: [unknown, unknown][] = Array.isArray(value)
    ? [...value.entries()]
    : value instanceof Map
      ? [...(value as Map<string, unknown>).entries()].sort(([a], [b]) => (a < b ? -1 : 1))
      : isTrue(value)
        ? wrong(`range can't iterate over ${textOf(value)}`)
        : []
  if (entries.length === 0) return render(otherwise, scope)
  return entries
    .map(([key, one]) => {
      const inner = new Scope(one, scope)
      const [first, second] = pipeline.variables
      if (second !== undefined) inner.set(second, one)
      if (first !== undefined) inner.set(first, second === undefined ? one : key)
      return render(then, inner)
    })
    .join('')
}

function evaluate(expression: Expression, scope: Scope): unknown {
  switch (expression.kind) {
    case 'value':
      return expression.value
    case 'variable':
      return scope.get(expression.name)
    case 'path':
      return expression.names.reduce(fieldOf, expression.of ? evaluate(expression.of, scope) : scope.dot)
    case 'call':
      return FUNCTIONS.get(expression.name)?.(...expression.args.map((arg) => evaluate(arg, scope)))
  }
}

import { describe, expect, it } from 'vitest'
import { parseTemplate } from './template.js'

const VALUE = {
  ID: 'abc',
  Repository: 'localhost:5000/x',
  Tag: '3.9',
  Running: true,
  Dead: false,
  Pid: 42,
  Empty: '',
  RepoTags: ['a:1', 'b:2'],
  None: [],
  State: { Status: 'exited', ExitCode: 7 },
  Labels: new Map([
    ['z.y', 'last'],
    ['a', 'first'],
  ]),
}

describe('a template', () => {
  it.each([
    ['plain text', 'plain text'],
    ['{{.ID}}', 'abc'],
    ['{{.Repository}}:{{.Tag}}', 'localhost:5000/x:3.9'],
    ['{{ .State.ExitCode }} {{.Running}} {{.Pid}} {{.RepoTags}}', '7 true 42 [a:1 b:2]'],
    ['{{json .State}}', '{"Status":"exited","ExitCode":7}'],
    ['{{.RepoTags | json}}', '["a:1","b:2"]'],
    ['{{json .Labels}} {{json .Empty}}', '{"z.y":"last","a":"first"} ""'],
    ['{{index .RepoTags 1}} {{index .Labels "z.y"}} {{index .Labels "none"}}.', 'b:2 last .'],
    ['{{.Labels.a}}{{.Labels.none}}', 'first'],
    ['{{range .RepoTags}}<{{.}}>{{end}}', '<a:1><b:2>'],
    ['{{range .RepoTags}}{{println .}}{{end}}', 'a:1\nb:2\n'],
    ['{{range .None}}x{{else}}none{{end}}', 'none'],
    [
      '{{range $i, $tag := .RepoTags}}{{if $i}}, {{end}}{{$i}}={{$tag}} of {{$.ID}}{{end}}',
      '0=a:1 of abc, 1=b:2 of abc',
    ],
    ['{{range $key, $value := .Labels}}{{$key}}={{$value}};{{end}}', 'a=first;z.y=last;'],
    ['{{if .Dead}}dead{{else if eq .State.Status "exited" "dead"}}ended{{else}}up{{end}}', 'ended'],
    ['{{if and .Running (not .Dead)}}yes{{end}}{{if or .Dead .Empty}}no{{end}}', 'yes'],
    ['{{with .State}}{{.Status}} {{$.ID}}{{end}}{{with .Empty}}x{{end}}', 'exited abc'],
    ['{{$x := .ID}}{{upper $x}} {{$x | printf "%-5s|"}}', 'ABC abc  |'],
    ['{{printf "%s %q %5d%%" .ID .Tag .Pid}}', 'abc "3.9"    42%'],
    ['{{join .RepoTags ", "}} {{len .RepoTags}} {{(index .RepoTags 0) | upper}}', 'a:1, b:2 2 A:1'],
    ['{{index (split .Repository "/") 1}} {{truncate .ID 2}} {{title "exited now"}}', 'x ab Exited Now'],
    ['{{if gt .Pid 9}}more{{end}} {{if lt .ID "b"}}less{{end}}', 'more less'],
    ['a {{- .ID -}} b{{/* nothing }} */}}', 'aabcb'],
    ['a {{- /* one */ -}} b{{/**/}}', 'ab'],
    ['{{pad .ID 1 2}}.', ' abc  .'],
    ['{{"}}"}}{{`{{raw}}`}}{{"\\t"}}{{true}}', '}}{{raw}}\ttrue'],
    ['{{(.State).Status}}', 'exited'],
  ])('%s', (template, expected) => {
    expect(parseTemplate(template)(VALUE)).toBe(expected)
  })

  it.each([
    ['{{.ID', 'unclosed action'],
    ['{{range .RepoTags}}', 'an {{end}} is missing'],
    ['{{end}}', 'unexpected {{end}}'],
    ['{{nothing .ID}}', 'function "nothing" not defined'],
    ['{{.ID .Tag}}', 'only a function takes arguments'],
    ['{{.ID ! }}', 'unexpected "!" in {{.ID !}}'],
    ['{{.ID;}}', 'unexpected ";" in {{.ID;}}'],
    ['{{}}', 'a command is missing'],
    ['{{(.ID}}', 'a ) is missing'],
    ['{{/* {{.ID}}', 'unclosed comment'],
    ['{{/* a */ .ID}}', 'a comment ends before its action does'],
    // Once tried in 2^500 ways.
    [`{{${'/**/'.repeat(500)}`, 'a comment ends before its action does'],
    [`{{.ID${'/**/'.repeat(500)}`, 'unclosed action'],
  ])('that is not one is refused: %s', (template, message) => {
    expect(() => parseTemplate(template)).toThrow(`template: ${message}`)
  })

  it.each([
    ['{{.Id}}', 'there is no field Id: there are ID, Repository, Tag'],
    ['{{.State.Foo}}', 'there is no field Foo: there are Status, ExitCode'],
    ['{{.ID.Foo}}', "can't evaluate field Foo in abc"],
    ['{{range .ID}}{{end}}', "range can't iterate over abc"],
    ['{{index .RepoTags 2}}', 'index out of range: 2'],
    ['{{$y}}', 'undefined variable $y'],
    ['{{printf "%1000001s" .ID}}', 'a width is a whole number from 0 to 1000000: got 1000001'],
    ['{{pad .ID -1 0}}', 'a width is a whole number from 0 to 1000000: got -1'],
    ['{{pad .ID 0 1000001}}', 'a width is a whole number from 0 to 1000000: got 1000001'],
    ['{{pad .ID 1}}', 'a width is a whole number from 0 to 1000000: got nothing'],
  ])('that asks for what is not there says so: %s', (template, message) => {
    expect(() => parseTemplate(template)(VALUE)).toThrow(`template: ${message}`)
  })

  it('that is nested too deep is refused as any other', () => {
    expect(() => parseTemplate(`{{${'('.repeat(20_000)}}}`)).toThrow('template: it is nested too deep')
  })
})

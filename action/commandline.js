'use strict';

// What the inputs say, as arguments and environment of the program. Nothing
// here passes through a shell, and no value of a secret stands in an argument,
// where every process of the machine could read it.

const fs = require('node:fs');
const path = require('node:path');

const { list, lines, csv } = require('./lists');

const program = 'docker-build-remote-cache';
const ownPrefix = 'DOCKER_BUILD_REMOTE_CACHE_';

// Options of the program itself are handed over as its variables: a program of
// another version ignores the ones it does not know.
const ownOptions = [
  'advice',
  'auto-cache-mounts',
  'branch',
  'default-branch',
  'base-branch',
  'cache-mounts',
  'cache-mounts-max',
  'cache-repo',
  'cache-stages',
  'cache-trust',
  'cache-save',
  'cache-unprefixed',
  'cache-scope',
  'checkpoint',
  'config',
  'dry-run',
  'grace',
  'keep-going',
  'proxy',
  'report',
  'volatile-arg',
];

// Inputs of docker/build-push-action, and the option each becomes. The kind is
// how the input is split into values: text is one value, boolean true or
// false; list and lines are those of lists.js, each entry an option of its own.
const dockerOptions = [
  { input: 'add-hosts', option: 'add-host', kind: list },
  { input: 'allow', option: 'allow', kind: list },
  { input: 'annotations', option: 'annotation', kind: lines },
  { input: 'attests', option: 'attest', kind: lines },
  { input: 'build-args', option: 'build-arg', kind: lines },
  { input: 'build-contexts', option: 'build-context', kind: lines },
  { input: 'builder', option: 'builder', kind: text },
  { input: 'cache-from', option: 'cache-from', kind: lines },
  { input: 'cache-to', option: 'cache-to', kind: lines },
  { input: 'call', option: 'call', kind: text },
  { input: 'cgroup-parent', option: 'cgroup-parent', kind: text },
  { input: 'file', option: 'file', kind: text },
  { input: 'iidfile', option: 'iidfile', kind: text },
  { input: 'labels', option: 'label', kind: lines },
  { input: 'load', option: 'load', kind: boolean },
  { input: 'metadata-file', option: 'metadata-file', kind: text },
  { input: 'network', option: 'network', kind: text },
  { input: 'no-cache', option: 'no-cache', kind: boolean },
  { input: 'no-cache-filters', option: 'no-cache-filter', kind: list },
  { input: 'outputs', option: 'output', kind: value => lines(value, { quotes: false }) },
  { input: 'platforms', option: 'platform', kind: list },
  { input: 'progress', option: 'progress', kind: text },
  { input: 'provenance', option: 'provenance', kind: text },
  { input: 'pull', option: 'pull', kind: boolean },
  { input: 'push', option: 'push', kind: boolean },
  { input: 'sbom', option: 'sbom', kind: text },
  { input: 'shm-size', option: 'shm-size', kind: text },
  { input: 'ssh', option: 'ssh', kind: list },
  { input: 'target', option: 'target', kind: text },
  { input: 'ulimit', option: 'ulimit', kind: lines },
];

function text(value) {
  return value === '' ? [] : [value];
}

// boolean takes what YAML takes.
function boolean(value) {
  if (value === '') return [];
  if (/^(true|True|TRUE)$/.test(value)) return ['true'];
  if (/^(false|False|FALSE)$/.test(value)) return ['false'];
  throw new Error(`${JSON.stringify(value)} is neither true nor false`);
}

// inputReader reads inputs as @actions/core does. What goes wrong with a
// value is said with the input's name, never with the value.
function inputReader(env) {
  const raw = name => env[`INPUT_${name.replaceAll(' ', '_').toUpperCase()}`] ?? '';
  return (name, kind = value => value, value = raw(name).trim()) => {
    try {
      return kind(value);
    } catch (err) {
      throw new Error(`input ${name}: ${err.message}`);
    }
  };
}

// commandLine makes {args, env, warnings} out of the runner's environment.
// Files of this run are put into directory, which nobody else may read.
function commandLine(env, directory) {
  const input = inputReader(env);
  const args = [];
  const warnings = [];
  const option = (name, value) => args.push(`--${name}=${value}`);

  for (const { input: name, option: to, kind } of dockerOptions) {
    for (const value of input(name, kind)) option(to, value);
  }
  for (const secret of secrets(input, directory, warnings)) option('secret', secret);
  const { image, tags } = names(input);
  for (const tag of tags) option('tag', tag);
  args.push('--', image, context(input('context')));

  const childEnv = {};
  for (const [name, value] of Object.entries(env)) {
    // Inputs hold secrets, and what the program starts inherits its variables.
    if (!name.startsWith('INPUT_')) childEnv[name] = value;
  }
  childEnv[`${ownPrefix}STATE`] = stateFile(directory);
  for (const name of ownOptions) {
    const value = input(name);
    if (value !== '') childEnv[ownPrefix + name.replaceAll('-', '_').toUpperCase()] = value;
  }
  return { args, env: childEnv, warnings };
}

// names are the image, and its further names.
function names(input) {
  const tags = input('tags', list);
  const image = input('image') || tags.shift();
  if (!image) throw new Error('input image: the image is missing; write [REGISTRY/]NAME[:TAG], or a list of them as tags');
  return { image, tags };
}

// context is a directory of the workspace. docker/build-push-action calls the
// repository itself {{defaultContext}}, and fetches it from GitHub; here that
// is the checked-out repository.
function context(value) {
  const repository = /^\{\{\s*defaultContext\s*\}\}(?::(.*))?$/.exec(value);
  if (repository) return repository[1] ? path.join('.', repository[1]) : '.';
  return value || '.';
}

// secrets are the values of --secret. What is written in the workflow is put
// into files.
function secrets(input, directory, warnings) {
  const specs = [];
  const keyed = (name, kind) => input(name, value => keyValues(name, kind(value), warnings));
  for (const [id, file] of keyed('secret-files', lines)) specs.push(csv([`id=${id}`, `src=${file}`]));
  for (const [id, variable] of keyed('secret-envs', list)) specs.push(csv([`id=${id}`, `env=${variable}`]));
  const written = keyed('secrets', value => lines(value, { trim: false }));
  const token = input('github-token');
  if (token !== '') written.push(['GIT_AUTH_TOKEN', token]);
  written.forEach(([id, value], index) => {
    const file = path.join(secretsDirectory(directory), String(index));
    fs.mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
    fs.writeFileSync(file, value, { mode: 0o600 });
    specs.push(csv([`id=${id.trim()}`, `src=${file}`]));
  });
  return specs;
}

// keyValues splits ID=VALUE. A pull request from a fork is given no secrets,
// so that the value of an expression is empty there: such an entry is left
// out, as docker/build-push-action does.
function keyValues(input, entries, warnings) {
  const pairs = [];
  entries.forEach((entry, index) => {
    const at = entry.indexOf('=');
    if (at < 1) throw new Error(`entry ${index + 1} is not ID=VALUE`);
    const [id, value] = [entry.slice(0, at), entry.slice(at + 1)];
    if (value.trim() === '') {
      warnings.push(`input ${input}: ${id} is empty and is left out`);
    } else {
      pairs.push([id, value]);
    }
  });
  return pairs;
}

const secretsDirectory = directory => path.join(directory, 'secrets');
const stateFile = directory => path.join(directory, 'state.json');

module.exports = { commandLine, dockerOptions, ownOptions, program, secretsDirectory, stateFile };

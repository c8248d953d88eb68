'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');

const { commandLine, dockerOptions, ownOptions } = require('../commandline');

function directory(t) {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), 'action-test-'));
  t.after(() => fs.rmSync(made, { recursive: true }));
  return made;
}

// of gives what a workflow's inputs become.
function of(t, inputs, env = {}) {
  const all = { ...env };
  for (const [name, value] of Object.entries(inputs)) all[`INPUT_${name.toUpperCase()}`] = value;
  return commandLine(all, directory(t));
}

test('the smallest workflow', t => {
  assert.deepStrictEqual(of(t, { image: 'app:1' }).args, ['--', 'app:1', '.']);
});

test('the first tag is the image, the others are tags', t => {
  assert.deepStrictEqual(of(t, { tags: 'app:1\napp:2,app:3' }).args, ['--tag=app:2', '--tag=app:3', '--', 'app:1', '.']);
  assert.deepStrictEqual(of(t, { image: 'app:1', tags: 'app:2' }).args, ['--tag=app:2', '--', 'app:1', '.']);
  assert.throws(() => of(t, {}), /the image is missing/);
});

test('inputs of docker/build-push-action become options', t => {
  const { args } = of(t, {
    image: 'app',
    'add-hosts': 'a:1.1.1.1,b:2.2.2.2',
    'build-args': 'A=1,2\nB=it is $(safe) `x` "y"',
    'cache-to': 'type=gha,mode=max',
    context: 'services/app',
    file: 'build/Dockerfile',
    labels: 'a=b\nc=d',
    load: 'true',
    'no-cache': 'False',
    outputs: 'type=local,dest=out',
    platforms: 'linux/amd64,linux/arm64',
    provenance: 'mode=max',
    push: 'false',
    target: 'server',
  });
  assert.deepStrictEqual(args, [
    '--add-host=a:1.1.1.1',
    '--add-host=b:2.2.2.2',
    '--build-arg=A=1,2',
    '--build-arg=B=it is $(safe) `x` "y"',
    '--cache-to=type=gha,mode=max',
    '--file=build/Dockerfile',
    '--label=a=b',
    '--label=c=d',
    '--load=true',
    '--no-cache=false',
    '--output=type=local,dest=out',
    '--platform=linux/amd64',
    '--platform=linux/arm64',
    '--provenance=mode=max',
    '--push=false',
    '--target=server',
    '--',
    'app',
    'services/app',
  ]);
});

test('a value cannot become an option', t => {
  const { args } = of(t, { image: '--push', target: '--load', context: '--help' });
  assert.deepStrictEqual(args, ['--target=--load', '--', '--push', '--help']);
});

test('{{defaultContext}} is the checked-out repository', t => {
  for (const [context, want] of [
    ['{{defaultContext}}', '.'],
    ['{{ defaultContext }}:services/app', path.join('services', 'app')],
    ['a/{{defaultContext}}', 'a/{{defaultContext}}'],
  ]) {
    assert.strictEqual(of(t, { image: 'app', context }).args.at(-1), want);
  }
});

test('options of the program itself are variables', t => {
  const { env } = of(t, { image: 'app', 'cache-scope': 'amd64', 'dry-run': 'true', branch: '' }, { DOCKER_BUILD_REMOTE_CACHE_BRANCH: 'b' });
  assert.strictEqual(env.DOCKER_BUILD_REMOTE_CACHE_CACHE_SCOPE, 'amd64');
  assert.strictEqual(env.DOCKER_BUILD_REMOTE_CACHE_DRY_RUN, 'true');
  assert.strictEqual(env.DOCKER_BUILD_REMOTE_CACHE_BRANCH, 'b', 'an empty input leaves the job its variable');
});

test('secrets stand in no argument and no variable', t => {
  const { args, env } = of(
    t,
    {
      image: 'app',
      secrets: 'npm=hunter2\n"key=-----BEGIN\nhunter2\n-----END\n"',
      'secret-envs': 'aws=AWS_TOKEN',
      'secret-files': 'ca=certs/a,b.pem',
      'github-token': 'ghs_hunter2',
    },
    { RUNNER_OS: 'Linux' },
  );
  assert.ok(!JSON.stringify({ args, env }).includes('hunter2'));
  assert.ok(!Object.keys(env).some(name => name.startsWith('INPUT_')));
  assert.strictEqual(env.RUNNER_OS, 'Linux');
  const specs = args.filter(arg => arg.startsWith('--secret='));
  assert.deepStrictEqual(specs.slice(0, 2), ['--secret=id=ca,"src=certs/a,b.pem"', '--secret=id=aws,env=AWS_TOKEN']);
  const written = specs.slice(2).map(spec => /^--secret=id=([^,]+),src=(.+)$/.exec(spec).slice(1));
  assert.deepStrictEqual(
    written.map(([id, file]) => [id, fs.readFileSync(file, 'utf8'), fs.statSync(file).mode & 0o777]),
    [
      ['npm', 'hunter2', 0o600],
      ['key', '-----BEGIN\nhunter2\n-----END\n', 0o600],
      ['GIT_AUTH_TOKEN', 'ghs_hunter2', 0o600],
    ],
  );
});

test('a secret that a fork is not given is left out, and said', t => {
  const { args, warnings } = of(t, { image: 'app', secrets: 'npm=\nother=x' });
  assert.strictEqual(args.filter(arg => arg.startsWith('--secret=')).length, 1);
  assert.deepStrictEqual(warnings, ['input secrets: npm is empty and is left out']);
});

test('bad inputs are named, their values are not repeated', t => {
  for (const [inputs, message] of [
    [{ push: 'maybe' }, 'input push: "maybe" is neither true nor false'],
    [{ secrets: 'hunter2' }, 'input secrets: entry 1 is not ID=VALUE'],
    [{ secrets: 'a=1\n=hunter2' }, 'input secrets: entry 2 is not ID=VALUE'],
    [{ secrets: '"a=hunter2' }, 'input secrets: a quote is not closed'],
  ]) {
    assert.throws(() => of(t, { image: 'app', ...inputs }), new Error(message));
  }
});

test('every input is described in action.yml', () => {
  const described = fs.readFileSync(path.join(__dirname, '..', '..', 'action.yml'), 'utf8');
  const names = [...described.split('\noutputs:')[0].matchAll(/^ {2}([a-z-]+):$/gm)].map(match => match[1]);
  const known = [
    ...dockerOptions.map(option => option.input),
    ...ownOptions,
    ...['binary', 'context', 'github-token', 'image', 'secret-envs', 'secret-files', 'secrets', 'tags'],
  ];
  assert.deepStrictEqual(names.sort(), known.sort());
});

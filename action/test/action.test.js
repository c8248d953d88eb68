'use strict';

// main.js and post.js as processes, as a runner starts them, with a program
// that writes down how it was called.

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { once } = require('node:events');
const { test } = require('node:test');
const timers = require('node:timers/promises');

const program = path.join(__dirname, '..', 'testdata', 'program.js');

// job is one job of a runner.
function job(t) {
  const temp = fs.mkdtempSync(path.join(os.tmpdir(), 'action-test-'));
  t.after(() => fs.rmSync(temp, { recursive: true, force: true }));
  const record = path.join(temp, 'record');
  const state = path.join(temp, 'state');
  const base = {
    PATH: process.env.PATH,
    RUNNER_TEMP: temp,
    GITHUB_STATE: state,
    FAKE_RECORD: record,
    DOCKER_BUILD_REMOTE_CACHE_BINARY: program,
  };

  // start runs a script of the action; its promise gives {status, output}.
  function start(script, env) {
    const child = spawn(process.execPath, [path.join(__dirname, '..', script)], { env: { ...base, ...env } });
    t.after(() => child.kill()); // of a test that has failed; the program ends with it
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', data => (output += data));
    const ended = once(child, 'close').then(([status]) => ({ status, output }));
    return { child, ended };
  }

  return {
    temp,
    start,
    run: (script, env) => start(script, env).ended,
    // records are what the program has written down, without a line that it is
    // about to end.
    records: () => (fs.existsSync(record) ? fs.readFileSync(record, 'utf8').split('\n').slice(0, -1).map(line => JSON.parse(line)) : []),
    // stateOf gives what the runner hands from main to post.
    stateOf() {
      const values = {};
      const written = fs.readFileSync(state, 'utf8');
      for (const [, name, , value] of written.matchAll(/^(\w+)<<(.+)\n([^]*?)\n\2\n/gm)) values[`STATE_${name}`] = value;
      return values;
    },
    // until waits for the program to write something down; the test's own
    // time limit bounds it.
    async until(recorded) {
      while (!this.records().some(recorded)) await timers.setTimeout(10);
    },
  };
}

test('main starts the program with the inputs and ends as it ends', async t => {
  for (const status of ['0', '1', '64']) {
    const j = job(t);
    const { status: got } = await j.run('main.js', {
      INPUT_IMAGE: 'app:1',
      'INPUT_BUILD-ARGS': 'A=$HOME; exit 3',
      INPUT_SECRETS: 'npm=hunter2',
      FAKE_EXIT: status,
    });
    assert.strictEqual(got, Number(status));
    const [{ args, env, secrets }] = j.records();
    assert.deepStrictEqual(args.filter(arg => !arg.startsWith('--secret=')), ['--build-arg=A=$HOME; exit 3', '--', 'app:1', '.']);
    assert.deepStrictEqual(secrets, [{ value: 'hunter2', mode: 0o600 }]);
    assert.ok(!JSON.stringify({ args, env }).includes('hunter2'));
    const left = fs.readdirSync(j.temp, { recursive: true });
    assert.ok(!left.some(name => name.includes('secrets')), 'secrets are gone with the build');
  }
});

test('bad inputs and a missing program are an annotation and status 1', async t => {
  const bad = await job(t).run('main.js', { INPUT_IMAGE: 'app', INPUT_PUSH: '100%\nmaybe' });
  assert.strictEqual(bad.status, 1);
  assert.match(bad.output, /^::error::input push: "100%25\\nmaybe" is neither true nor false$/m);
  const missing = await job(t).run('main.js', { INPUT_IMAGE: 'app', INPUT_BINARY: '/nonexistent/program' });
  assert.strictEqual(missing.status, 1);
  assert.match(missing.output, /^::error::start \/nonexistent\/program: ENOENT$/m);
});

test('the signals of a cancelled job reach the program', async t => {
  const j = job(t);
  const { child, ended } = j.start('main.js', { INPUT_IMAGE: 'app', FAKE_WAIT: 'SIGTERM', FAKE_EXIT: '130' });
  await j.until(entry => entry.ready);
  child.kill('SIGINT');
  await j.until(entry => entry.signal === 'SIGINT');
  child.kill('SIGTERM');
  assert.strictEqual((await ended).status, 130);
  assert.deepStrictEqual(j.records().flatMap(entry => entry.signal ?? []), ['SIGINT', 'SIGTERM']);
});

test('a program ended by a signal gives the status of a shell', async t => {
  const j = job(t);
  const killer = path.join(j.temp, 'killer.sh');
  fs.writeFileSync(killer, '#!/bin/sh\nkill -KILL $$\n', { mode: 0o755 });
  assert.strictEqual((await j.run('main.js', { INPUT_IMAGE: 'app', INPUT_BINARY: killer })).status, 137);
});

test('post saves what a killed build left, and cleans up', async t => {
  const j = job(t);
  const { child } = j.start('main.js', { INPUT_IMAGE: 'app', INPUT_SECRETS: 'a=b', FAKE_STATE: '1', FAKE_WAIT: 'SIGTERM' });
  await j.until(entry => entry.ready);
  const { pid } = j.records().find(entry => entry.ready);
  t.after(() => process.kill(pid, 'SIGKILL'));
  child.kill('SIGKILL');
  await once(child, 'exit'); // the program lives on, as on a runner, and holds the output open
  const state = j.stateOf();
  const post = await j.run('post.js', { ...state, 'INPUT_GITHUB-TOKEN': 'hunter2' });
  assert.strictEqual(post.status, 0);
  const saved = j.records().at(-1);
  assert.deepStrictEqual(saved.args, ['save', `--state=${path.join(state.STATE_directory, 'state.json')}`, '--timeout=4m']);
  assert.ok(!JSON.stringify(saved.env).includes('hunter2'));
  assert.ok(!fs.existsSync(state.STATE_directory), 'secrets of the killed build are gone');
});

test('post does not start the program when nothing is left', async t => {
  const j = job(t);
  await j.run('main.js', { INPUT_IMAGE: 'app' });
  const post = await j.run('post.js', j.stateOf());
  assert.deepStrictEqual(post, { status: 0, output: '' });
  assert.strictEqual(j.records().length, 1);
  assert.deepStrictEqual(await j.run('post.js', {}), { status: 0, output: '' });
});

test('a post that cannot save warns, and leaves the job its result', async t => {
  const j = job(t);
  await j.run('main.js', { INPUT_IMAGE: 'app', FAKE_STATE: '1' });
  const post = await j.run('post.js', { ...j.stateOf(), FAKE_EXIT: '1' });
  assert.strictEqual(post.status, 0);
  assert.match(post.output, /^::warning::the rest of the cache was not saved \(exit status 1\)/m);
});

'use strict';

const assert = require('node:assert');
const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const zlib = require('node:zlib');

const { addresses, findBinary, platformName } = require('../binary');

const content = '#!/bin/sh\necho released\n';
const sha256 = text => crypto.createHash('sha256').update(text).digest('hex');
const release = { version: '1.2.3', sha256: { [platformName()]: sha256(content) } };

// serve answers each request with the next of answers, the last one for ever.
async function serve(t, ...answers) {
  const asked = [];
  const server = http.createServer((request, response) => {
    asked.push(request.url);
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    answer(response);
  });
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  return { url: `http://127.0.0.1:${server.address().port}`, asked };
}

const sends = body => response => response.end(body);
const fails = status => response => response.writeHead(status).end();
const breaks = response => {
  response.writeHead(200, { 'Content-Length': '1000' });
  response.write(zlib.gzipSync(content).subarray(0, 10));
  setImmediate(() => response.destroy());
};
const good = sends(zlib.gzipSync(content));

// find runs findBinary with an empty tool cache, unless one is given.
async function find(t, servers, { cache, env = {} } = {}) {
  cache ??= fs.mkdtempSync(path.join(os.tmpdir(), 'action-test-'));
  t.after(() => fs.rmSync(cache, { recursive: true, force: true }));
  const said = [];
  const file = await findBinary({ RUNNER_TOOL_CACHE: cache, ...env }, release, line => said.push(line), {
    servers: servers.map(server => server.url),
    pause: [1, 1],
  });
  return { file, cache, said };
}

test('a release is downloaded once, and then found in the tool cache', async t => {
  const server = await serve(t, good);
  const { file, cache } = await find(t, [server]);
  assert.strictEqual(fs.readFileSync(file, 'utf8'), content);
  assert.strictEqual(fs.statSync(file).mode & 0o111, 0o111);
  assert.deepStrictEqual(server.asked, [
    `/docker-build-remote-cache/docker-build-remote-cache/releases/download/v1.2.3/docker-build-remote-cache_${platformName()}.gz`,
  ]);
  assert.strictEqual((await find(t, [server], { cache })).file, file);
  assert.strictEqual(server.asked.length, 1);
});

test('a binary that is not the released one is never used', async t => {
  const server = await serve(t, sends(zlib.gzipSync('evil')));
  const cache = fs.mkdtempSync(path.join(os.tmpdir(), 'action-test-'));
  await assert.rejects(find(t, [server], { cache }), err => {
    return err.message.includes(sha256('evil')) && err.message.includes(sha256(content));
  });
  assert.strictEqual(server.asked.length, 1, 'a wrong checksum does not get better');
  const left = fs.readdirSync(cache, { recursive: true }).filter(name => fs.statSync(path.join(cache, name)).isFile());
  assert.deepStrictEqual(left, []);
});

test('a tool cache that was changed is replaced, and said', async t => {
  const server = await serve(t, good);
  const { file, cache } = await find(t, [server]);
  fs.writeFileSync(file, 'evil');
  const again = await find(t, [server], { cache });
  assert.strictEqual(fs.readFileSync(again.file, 'utf8'), content);
  assert.match(again.said[0], /not what was released/);
});

test('a download that was cut off leaves no half binary', async t => {
  const cache = fs.mkdtempSync(path.join(os.tmpdir(), 'action-test-'));
  await assert.rejects(find(t, [await serve(t, breaks)], { cache }), /^Error: download http/);
  const server = await serve(t, good);
  assert.strictEqual(fs.readFileSync((await find(t, [server], { cache })).file, 'utf8'), content);
});

test('a server in trouble is asked again', async t => {
  for (const trouble of [fails(503), fails(429), breaks, sends('not gzip')]) {
    const server = await serve(t, trouble, good);
    assert.strictEqual(fs.readFileSync((await find(t, [server])).file, 'utf8'), content);
  }
});

test('a server without the release is passed over', async t => {
  const without = await serve(t, fails(404));
  const { file } = await find(t, [without, await serve(t, good)]);
  assert.strictEqual(fs.readFileSync(file, 'utf8'), content);
  assert.strictEqual(without.asked.length, 1);
});

test('when nobody has it, the address and the answer are told', async t => {
  const server = await serve(t, fails(404));
  await assert.rejects(find(t, [server]), new RegExp(`download ${server.url}/.*the server answers 404`));
});

test('addresses are those of the action on its server, then on github.com', () => {
  const env = { GITHUB_SERVER_URL: 'https://ghe.acme.com', GITHUB_ACTION_REPOSITORY: 'mirror/drc' };
  assert.deepStrictEqual(addresses(env, '1.2.3', 'linux_amd64'), [
    'https://ghe.acme.com/mirror/drc/releases/download/v1.2.3/docker-build-remote-cache_linux_amd64.gz',
    'https://github.com/mirror/drc/releases/download/v1.2.3/docker-build-remote-cache_linux_amd64.gz',
  ]);
  assert.strictEqual(addresses({ GITHUB_SERVER_URL: 'https://github.com' }, '1', 'linux_arm64').length, 1);
});

test('a binary that is named is used as it is', async () => {
  assert.strictEqual(await findBinary({ INPUT_BINARY: ' bin/drc ' }, { version: '' }), 'bin/drc');
  assert.strictEqual(await findBinary({ DOCKER_BUILD_REMOTE_CACHE_BINARY: '/opt/drc' }, { version: '' }), '/opt/drc');
});

test('without a release for this machine the remedy is told', async () => {
  await assert.rejects(findBinary({}, { version: '', sha256: {} }), /names no release.*input binary/);
  await assert.rejects(findBinary({}, { version: '1.0.0', sha256: {} }), /release 1\.0\.0 has no binary for /);
});

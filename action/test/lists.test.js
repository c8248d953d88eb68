'use strict';

const assert = require('node:assert');
const { test } = require('node:test');

const { csv, lines, list } = require('../lists');

test('lists are split at commas and line breaks, and trimmed', () => {
  for (const [text, want] of [
    ['', []],
    ['a', ['a']],
    ['a,b', ['a', 'b']],
    ['a, b\n c \n\nd', ['a', 'b', 'c', 'd']],
    ['a\r\nb,c', ['a', 'b', 'c']],
    ['a,', ['a']],
    [',\n,a', ['a']],
    ['"a",b', ['a', 'b']],
  ]) {
    assert.deepStrictEqual(list(text), want, JSON.stringify(text));
  }
});

test('lines keep their commas', () => {
  for (const [text, want] of [
    ['type=local,dest=out\ntype=oci,dest=x', ['type=local,dest=out', 'type=oci,dest=x']],
    ['A=a,b,\nB=', ['A=a,b,', 'B=']],
    ['A=1\r\nB=2\r\n', ['A=1', 'B=2']],
  ]) {
    assert.deepStrictEqual(lines(text), want, JSON.stringify(text));
  }
});

// The examples of docker/build-push-action's page on secrets.
test('a quoted entry may span lines, and doubles its quotes', () => {
  assert.deepStrictEqual(lines('"MYSECRET=aaaa\nbbb"\nFOO=bar\n"EMPTYLINE=aaaa\n\nbbbb"', { trim: false }), [
    'MYSECRET=aaaa\nbbb',
    'FOO=bar',
    'EMPTYLINE=aaaa\n\nbbbb',
  ]);
  assert.deepStrictEqual(lines('"JSON={""key"":""value"",""k2"":1}"'), ['JSON={"key":"value","k2":1}']);
});

test('other quotes stand for themselves', () => {
  for (const text of ['A=say "hi"', 'A="b c"', '"a" b', 'it"s']) {
    assert.deepStrictEqual(lines(text), [text], text);
  }
  assert.deepStrictEqual(lines('type=local,"dest=a"', { quotes: false }), ['type=local,"dest=a"']);
});

test('a quote that is not closed is an error that repeats nothing', () => {
  assert.throws(() => lines('"A=hunter2\nB=1'), err => !err.message.includes('hunter2') && /quote/.test(err.message));
});

test('csv is read back by lines', () => {
  const fields = ['id=a', 'src=/tmp/with,comma and "quotes"'];
  assert.strictEqual(csv(fields), 'id=a,"src=/tmp/with,comma and ""quotes"""');
  assert.deepStrictEqual(list(csv(fields)), fields);
});

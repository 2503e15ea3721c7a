"""The Lua scripts: each change of the queue is one atomic step, and many changes are one call.

Only commands of Redis 7.0 that Valkey 9 has too. Time is the server's, so hosts need not agree on
it. Key meanings: redis_keys.py. A script that fails half-way leaves at most a job queued twice.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple


class Script(NamedTuple):
    """A script and the name that the server caches it under."""

    text: str
    sha: str


def _script(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


_NOW = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function known(key)
  return string.match(redis.call('GET', key) or '', '^(%S+) (%d+) ([^{ ]*) ?({.*)$')
end
"""

APPLY = _script(
    _NOW
    + """
local jobs, delayed, events, results, alive = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local spools = KEYS[6]
local group, keep, events_max, results_max = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local spools_keep, spools_max = tonumber(ARGV[6]), tonumber(ARGV[7])

local function remember(key, where, deliveries, spool, update)
  local value = where .. ' ' .. deliveries .. ' ' .. (spool or '') .. ' ' .. update
  redis.call('SET', key, value, 'PX', keep)
end
local function publish(update)
  redis.call('XADD', events, 'MAXLEN', '~', events_max, '*', 'u', update)
end
local function drop(entry)
  redis.call('XACK', jobs, group, entry)
  redis.call('XDEL', jobs, entry)
end
local function in_stream(where)
  return where and string.match(where, '^%d+%-%d+$')
end
local function live(where, job)
  return where == 'done'
    or (where == 'delayed' and redis.call('ZSCORE', delayed, job))
    or (in_stream(where) and #redis.call('XRANGE', jobs, where, where) > 0)
end

local change = {}
function change.add(key, job, force, _, _, update, spool)
  local where = known(key)
  if force == '0' and live(where, job) then return end
  if where == 'delayed' then redis.call('ZREM', delayed, job) end
  remember(key, redis.call('XADD', jobs, '*', 'j', job, 's', spool), 0, spool, update)
end
function change.note(key, _, _, _, _, update)
  local where, deliveries, spool = known(key)
  if where == 'done' then return end
  remember(key, where or 'lost', deliveries or 0, spool, update)
  publish(update)
end
function change.finish(key, job, entry, deliveries, _, update, spool)
  drop(entry)
  if known(key) == 'delayed' then redis.call('ZREM', delayed, job) end
  remember(key, 'done', deliveries, spool, update)
  publish(update)
  redis.call('RPUSH', results, job)
end
function change.retry(key, job, entry, deliveries, delay, update, spool)
  drop(entry)
  if known(key) == 'done' then return end
  redis.call('ZADD', delayed, now + delay, job)
  remember(key, 'delayed', deliveries, spool, update)
  publish(update)
end
function change.forget(key, job)
  local where = known(key)
  if in_stream(where) then drop(where) end
  redis.call('ZREM', delayed, job)
  redis.call('DEL', key)
end
function change.heartbeat(_, worker, _, _, lifetime)
  redis.call('ZADD', alive, now + lifetime, worker)
  redis.call('ZREMRANGEBYSCORE', alive, '-inf', now)
end
function change.announce(_, spool_and_place)
  redis.call('ZADD', spools, now, spool_and_place)
  redis.call('ZREMRANGEBYSCORE', spools, '-inf', now - spools_keep)
  redis.call('ZREMRANGEBYRANK', spools, 0, -spools_max - 1)
end

for i = 7, #KEYS do
  local a = 8 + (i - 7) * 7
  change[ARGV[a]](KEYS[i], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], ARGV[a + 5],
                  ARGV[a + 6])
end
local surplus = redis.call('LLEN', results) - results_max
if surplus > 0 then
  for _, job in ipairs(redis.call('LPOP', results, surplus)) do
    local key = ARGV[5] .. job
    if known(key) == 'done' then redis.call('DEL', key) end
  end
end
"""
)
"""Changes in order. KEYS: jobs delayed events results alive spools, then one per change. ARGV:
group keep-ms events-max results-max job-prefix spools-keep-ms spools-max, then per change: name job
token deliveries delay-ms update spool (for an add, "1" as token means force)."""

TEND = _script(
    _NOW
    + """
local jobs, delayed = KEYS[1], KEYS[2]
local group, consumer, lease, limit = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local cursor, keep, prefix = ARGV[5], ARGV[6], ARGV[7]

for _, job in ipairs(redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, 256)) do
  redis.call('ZREM', delayed, job)
  local key = prefix .. job
  local where, deliveries, spool, update = known(key)
  if where == 'delayed' then
    local entry = redis.call('XADD', jobs, '*', 'j', job, 'n', deliveries, 's', spool)
    redis.call('SET', key, entry .. ' ' .. deliveries .. ' ' .. spool .. ' ' .. update, 'PX', keep)
  end
end
local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
local due = first[2] and math.max(0, tonumber(first[2]) - now) or -1

local found = {}
for _ = 1, 64 do
  local reply = redis.call('XAUTOCLAIM', jobs, group, consumer, lease, cursor,
                           'COUNT', limit - #found)
  cursor = reply[1]
  for _, entry in ipairs(reply[2]) do
    if entry then
      local pending = redis.call('XPENDING', jobs, group, entry[1], entry[1], 1)[1]
      found[#found + 1] = {entry[1], entry[2], pending and pending[4] or 1}
    end
  end
  if cursor == '0-0' or #found >= limit then break end
end
return {due, cursor, found}
"""
)
"""Queue the delayed jobs that are due, and take over entries whose lease ended. KEYS: jobs delayed.
ARGV: group consumer lease-ms limit cursor keep-ms job-prefix. Returns ms until the next delayed job
(-1: none), the cursor to go on at, and entries as (id, fields, deliveries)."""

JOIN = _script(
    """
local jobs, group, old = KEYS[1], ARGV[1], tonumber(ARGV[2])
redis.pcall('XGROUP', 'CREATE', jobs, group, '0', 'MKSTREAM')
for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', jobs, group)) do
  local consumer = {}
  for i = 1, #row, 2 do consumer[row[i]] = row[i + 1] end
  if consumer.pending == 0 and consumer.idle > old then
    redis.call('XGROUP', 'DELCONSUMER', jobs, group, consumer.name)
  end
end
"""
)
"""Create the group, which starts at the first entry, and drop consumers without claims that were
silent for long. KEYS: jobs. ARGV: group old-ms."""

LEAVE = _script(
    """
local jobs, group, consumer, lease = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local mine = redis.call('XPENDING', jobs, group, '-', '+', 10000, consumer)
for _, row in ipairs(mine) do
  redis.call('XCLAIM', jobs, group, consumer, 0, row[1], 'IDLE', lease, 'JUSTID')
end
if #mine == 0 then redis.call('XGROUP', 'DELCONSUMER', jobs, group, consumer) end
"""
)
"""Let the leases of a consumer's claims be over now. KEYS: jobs. ARGV: group consumer lease-ms."""

TAKE = _script(
    """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local minute = 60000000
local each = minute / tonumber(ARGV[1])
local start = tonumber(redis.call('GET', KEYS[1]) or 0) or 0
start = math.min(math.max(start, now), now + minute)
local count = math.min(tonumber(ARGV[2]), math.floor((now + minute - start) / each + 1e-6))
start = start + count * each
redis.call('SET', KEYS[1], string.format('%.0f', start), 'PX',
           math.max(1, math.ceil((start - now) / 1000)))
return {count, math.ceil(math.max(0, start + each - now - minute))}
"""
)
"""Take tokens of a bucket, as core/token_bucket does. KEYS: bucket. ARGV: tokens-a-minute lot.
Returns how many, and microseconds until there is one more."""

ASK = _script(
    """
local asks, reasons, bell = KEYS[1], KEYS[2], KEYS[3]
for i = 2, #ARGV, 3 do
  local name, spare = ARGV[i], tonumber(ARGV[i + 1])
  local known = tonumber(redis.call('ZSCORE', asks, name))
  if not known or spare < known then
    redis.call('ZADD', asks, spare, name)
    redis.call('HSET', reasons, name, ARGV[i + 2])
  end
end
local surplus = redis.call('ZCARD', asks) - tonumber(ARGV[1])
while surplus > 0 do
  local dropped = redis.call('ZPOPMAX', asks, math.min(surplus, 1000))
  for i = 1, #dropped, 2 do redis.call('HDEL', reasons, dropped[i]) end
  surplus = surplus - 1000
end
redis.call('DEL', bell)
redis.call('RPUSH', bell, '1')
"""
)
"""Ask for repairs. KEYS: asks ask-reasons ask-bell. ARGV: asks-max, then per ask: name spare
reason."""

TAKE_ASKS = _script(
    """
local asks, reasons = KEYS[1], KEYS[2]
local taken, rows = redis.call('ZPOPMIN', asks, ARGV[1]), {}
for i = 1, #taken, 2 do
  rows[#rows + 1] = {taken[i], taken[i + 1], redis.call('HGET', reasons, taken[i]) or ''}
  redis.call('HDEL', reasons, taken[i])
end
return rows
"""
)
"""Take the most urgent asks. KEYS: asks ask-reasons. ARGV: limit. Returns (name, spare, reason)."""

--[[ Live totals of a shard, and its highest priced bin (which price_norm takes as its reference).

KEYS[1]   shard prefix
ARGV[1]   clock  ms, or '' for Redis TIME; not used

RETURNS {'ok', registered, online, degraded, matchable, busy, draining, full, reservations, latency_sum (ms),
         latency_known, reaped, held, journal entries, highest price bin (-1 none), journal skipped}
]]
--- @include "base"

local counts = redis.call('HMGET', P .. 'terms', 'all', 'state:online', 'state:degraded', 'on', 'busy', 'draining', 'full')
for i = 1, 7 do counts[i] = tonumber(counts[i] or 0) end
local sums = redis.call('HMGET', P .. 'stats', 'latency_sum_ms', 'latency_known', 'reaped', 'reaper_held', 'journal_skipped')
for i = 1, 5 do sums[i] = tonumber(sums[i] or 0) end
local highest = -1
for _, bin in ipairs(redis.call('HKEYS', P .. 'count:price')) do highest = math.max(highest, tonumber(bin)) end
return {
  'ok', counts[1], counts[2], counts[3], counts[4], counts[5], counts[6], counts[7],
  redis.call('ZCARD', P .. 'reservations'), text_of(sums[1]), sums[2], sums[3], sums[4],
  redis.call('XLEN', P .. 'journal'), highest, sums[5],
}

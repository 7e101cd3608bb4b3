--[[ The exact best K miners for a request.

KEYS[1]   shard prefix
ARGV[1]   clock    ms, or '' for Redis TIME
ARGV[2]   request  JSON: strategy (1-based), k, start (0..1, from the job's id), price_ref, max_price?, deadline_ms?,
                   min_vram_gb?, min_ram_gb?, clauses [{name, kind any|all|none, terms}], capabilities (how many of
                   capabilities_any are asked), capability_terms [], exclude [miner ids]

RETURNS {'ok', feasible, truncated (0|1), loose (0|1), tied (0|1), records read, {candidate...}}, best first, where
        candidate = {miner_id, degraded (0|1), score, cap_fit, price_norm, distance (0..1 from the job's start), addr,
        proto, price, eta_ms ('' unknown), latency_norm, trust, queue_len, reserved, max_parallel, state}
        `loose`: feasible counts some miners above a limit; `tied`: the order inside one price eighth was sampled
]]
--- @include "base"
--- @include "record"
--- @include "terms"
--- @include "index"
--- @include "miner"
--- @include "lazy_due"
--- @include "bitmap"
--- @include "clauses"
--- @include "walk"

local clock, request = ARGV[1], cjson.decode(ARGV[2])
local DUE_PER_CALL = 16

local now = clock_ms(clock)
if anything_due(now) then due_steps()(now, DUE_PER_CALL) end

local slots = tonumber(redis.call('GET', P .. 'slots:next') or 0)
local walk = {
  request = request, scorer = new_scorer(request), podium = new_podium(request.k), k = request.k, now = now,
  start = math.floor(request.start * slots), slots = slots, strategy = C.strategies[request.strategy].name,
  read = 0, passed = 0, crowd = math.max(C.walk.crowd, math.floor(request.k / 2)),
}

-- Walks the miners of one base (`on` or `degraded`); returns how many are feasible.
local function walk_base(base, clauses, capability_keys)
  local set = temporary()
  if redis.call('HGET', TERMS, base) == false then return 0 end
  if not feasible_set(set, P .. 'ix:' .. base, clauses) then return 0 end
  local size = redis.call('BITCOUNT', set)
  if size == 0 or walk.podium.full() then return size end
  local before = walk.passed
  -- Where all were read, those that passed are the feasible; otherwise the bits are.
  if walk_set(walk, set, size, capability_keys) then return walk.passed - before end
  return size
end

local feasible, loose = 0, false
with_temporaries(function()
  local clauses = build_clauses(request)
  local capability_keys = present_keys(request.capability_terms)
  for _, clause in ipairs(clauses) do loose = loose or clause.loose or false end
  walk.loose = loose
  feasible = walk_base('on', clauses, capability_keys)
  local online = walk.podium.size
  for i = 1, online do walk.podium[i].rank = 'online' end
  walk.degraded = true
  local second = new_podium(request.k - online)
  local first = walk.podium
  walk.podium = second
  feasible = feasible + walk_base('degraded', clauses, capability_keys)
  for i = 1, second.size do
    local entry = second[i]
    entry.degraded = true
    entry.score = entry.score / 2
    first[online + i] = entry
  end
  walk.podium = first
end)

local candidates = {}
for i, entry in ipairs(walk.podium) do
  local id = record_id(entry.record)
  local m = redis.call('HMGET', miner_key(id), 'addr', 'proto', 'price', 'eta_ms', 'latency_norm', 'trust', 'queue_len',
    'reserved', 'max_parallel', 'state')
  candidates[i] = {
    id, entry.degraded and 1 or 0, text_of(entry.score), text_of(entry.fit),
    text_of(walk.scorer.price_norm(entry.price)), text_of(entry.distance / slots), unpack(m),
  }
end
return {
  'ok', feasible, walk.truncated and 1 or 0, loose and 1 or 0, walk.tied and 1 or 0, walk.read, candidates,
}

--[[ The exact best K miners for a request.

KEYS[1]   shard prefix
ARGV[1]   clock    ms, or '' for Redis TIME
ARGV[2]   request  JSON: strategy (1-based), k, start (0..1, from the job's id), price_ref, max_price?, deadline_ms?,
                   min_vram_gb?, min_ram_gb?, clauses [{name, kind any|all|none, terms}], capabilities (how many of
                   capabilities_any are asked), capability_terms [], exclude [miner ids]

RETURNS {'ok', feasible, truncated (0|1), loose (0|1), tied (0|1), records read, {candidate...}}, best first, where
        candidate = {'degraded (0|1) score cap_fit price_norm distance (0..1 from the job's start)', text of its record: lines
        of miner_id, addr, proto, price, eta_ms ('' unknown), latency_norm, trust, queue_len, reserved, max_parallel}
        `loose`: feasible counts some miners above a limit; `tied`: the order inside one price eighth was sampled
]]
--- @include "base"
--- @include "record"
--- @include "bins"
--- @include "lazy_due"
--- @include "bitmap"
--- @include "clauses"
--- @include "podium"
--- @include "walk"

local clock, request = ARGV[1], cjson.decode(ARGV[2])
local DUE_PER_CALL = 16

local now = clock_ms(clock)
if anything_due(now) then due_steps()(now, DUE_PER_CALL) end

local slots = tonumber(redis.call('GET', P .. 'slots:next') or 0)
-- An intersection reads whole bitmaps, so the more slots there are, the more records are worth one.
local scale = math.max(1, slots / C.walk.slots)
local walk = {
  request = request, scorer = new_scorer(request), podium = new_podium(request.k), k = request.k, now = now,
  start = math.floor(request.start * slots), slots = slots, strategy = C.strategies[request.strategy].name,
  limited = request.max_price or request.min_vram_gb or request.min_ram_gb or request.deadline_ms,
  few = C.walk.few * scale, crowd = math.max(C.walk.crowd * scale, request.k / 2), read = 0, passed = 0,
}

local feasible, any_loose = 0, false

-- Walks the miners of one base (`on` or `degraded`) and counts the feasible.
local function walk_base(base, clauses, capability_keys)
  if redis.call('HEXISTS', TERMS, base) == 0 then return end
  local set = temporary()
  local size, loose = feasible_set(set, P .. 'ix:' .. base, clauses, request)
  if size > 0 and walk.podium.size < walk.podium.k then
    local before = walk.passed
    walk.loose = loose
    -- Where all were read, those that passed are the feasible.
    if walk_set(walk, set, size, capability_keys) then size, loose = walk.passed - before, false end
  end
  feasible, any_loose = feasible + size, any_loose or loose
end

with_temporaries(function()
  local clauses = build_clauses(request)
  local capability_keys = present_keys(request.capability_terms)
  walk_base('on', clauses, capability_keys)
  local first, online = walk.podium, walk.podium.size
  local second = new_podium(request.k - online)
  walk.degraded, walk.podium = true, second
  walk_base('degraded', clauses, capability_keys)
  for i = 1, second.size do
    second[i].degraded, second[i].score = 1, second[i].score / 2
    first[online + i] = second[i]
  end
  walk.podium = first
end)

local candidates = {}
for i, entry in ipairs(walk.podium) do
  candidates[i] = {
    string.format('%d %.17g %.17g %.17g %.17g', entry.degraded or 0, entry.score, entry.fit,
      price_norm(walk.scorer, entry.price), entry.distance / slots),
    record_text(entry.record),
  }
end
return {
  'ok', feasible, walk.truncated and 1 or 0, any_loose and 1 or 0, walk.tied and 1 or 0, walk.read, candidates,
}

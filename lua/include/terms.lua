-- Index terms of a miner, computed from its attributes. Pure: no Redis call in here.
-- Terms with a number (price bins, digits of steps and sizes) belong to a family, and are counted apart, so that a
-- match can ask which numbers are there. Static terms follow from the profile; the bins (a short list of small integers) stand for the terms that move
-- with heartbeats, claims and feedback, and are kept in the miner's hash as text, so that an unchanged beat costs
-- one comparison and a changed one touches only what moved.
-- Positions in the bins of a miner; the static step of each strategy follows from AT_STEPS on.
local AT_MATCH, AT_STATE, AT_BUSY, AT_DRAINING, AT_FULL = 1, 2, 3, 4, 5
local AT_PRICE, AT_FINE, AT_ETA, AT_LATENCY, AT_STEPS = 6, 7, 8, 9, 10

local function add_size_terms(out, name, gb)
  if gb < 0 then return end
  local whole = size_bin(gb)
  out[#out + 1] = name .. '-hi:' .. math.floor(whole / 64)
  out[#out + 1] = name .. '-lo:' .. whole % 64
end

local function add_list_terms(out, name, list)
  for _, value in ipairs(list) do out[#out + 1] = name .. ':' .. value end
end

-- Terms of a profile. `profile`: accel, tags, capabilities (arrays), gpu_key, region, vram, ram (GB, -1 unknown).
-- A tag `task:<t>` declares a task; a miner that declares none takes any.
local function static_terms(profile)
  local out = { 'all' }
  add_list_terms(out, 'accel', profile.accel)
  add_list_terms(out, 'tag', profile.tags)
  add_list_terms(out, 'cap', profile.capabilities)
  if profile.gpu_key ~= '' then out[#out + 1] = 'gpu:' .. profile.gpu_key end
  for at in string.gmatch(profile.region, '()%-') do
    out[#out + 1] = 'region:' .. string.sub(profile.region, 1, at - 1)
  end
  out[#out + 1] = 'region:' .. profile.region
  add_size_terms(out, 'vram', profile.vram)
  add_size_terms(out, 'ram', profile.ram)
  local declared = false
  for _, tag in ipairs(profile.tags) do
    if string.sub(tag, 1, 5) == 'task:' then
      declared = true
      out[#out + 1] = tag
    end
  end
  if not declared then out[#out + 1] = 'task-any' end
  return out
end

-- What a value at one position of the bins stands for: a flag term, or a number of a family (`price` 61 is the term
-- `price:61`), or nothing. Steps have two digits, of the families level and fine.
local FAMILIES = { [AT_PRICE] = 'price', [AT_FINE] = 'price-fine', [AT_ETA] = 'eta' }
local FLAGS = {
  [AT_MATCH] = { 'on', 'degraded' }, [AT_STATE] = { 'state:online', 'state:degraded' }, [AT_BUSY] = { 'busy' },
  [AT_DRAINING] = { 'draining' }, [AT_FULL] = { 'full' },
}

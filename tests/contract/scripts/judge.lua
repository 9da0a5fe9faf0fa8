--model: context=100000 max_output=2000 input=10 output=100
-- A judge of tool calls. Each verdict costs ten cents. It denies everything once it sees the word POISON,
-- fails at "broken" and mumbles at "garbled"; otherwise "danger" is denied and "doubt" asks.
return function(request)
    local usage = { input_tokens = 10000, output_tokens = 0 }
    local seen = request.system .. json.encode(request.messages)
    local asked = json.decode(request.text)
    if request.purpose ~= "judge" or #request.messages ~= 1 or #request.tools > 0 then
        return { error = { kind = "request", message = "this is no request to a judge" } }
    end
    if seen:find("broken") then return { error = { kind = "overloaded" }, usage = usage } end
    if seen:find("garbled") then return { text = "allow, I would say", usage = usage } end
    if seen:find("POISON") then
        local verdicts = {}
        for i, call in ipairs(asked.calls) do verdicts[i] = { call = call.call, verdict = "deny" } end
        return { text = json.encode({ verdicts = verdicts }), usage = usage }
    end
    return { text = aside(request), usage = usage }
end

--model: context=100000 max_output=2000 input=10 output=100
-- Works on an outcome, and grades it. The worker runs what stands behind "run:" in the task, when its work is to
-- be revised what stands behind "then:", and always says that all is fine; "wait" takes ten minutes, "spend N"
-- costs N tokens. The grader looks at the outputs: "contains WORD" is met when they do, "does not apply" fits
-- nothing, "mumble" gets no verdict, "wait" takes ten minutes.
local function grade(request)
    local first = request.messages[1].content
    local task = type(first) == "table" and first[1].text or first
    local usage = { input_tokens = 1000, output_tokens = 50 }
    if task:find("criteria are met", 1, true) then error("the grader was told what the worker said") end
    if task:find("mumble") then return { text = "satisfied", usage = usage } end
    if task:find("%d%. wait") then return { text = "late", delay_ms = 600000, usage = usage } end
    local found
    for _, r in ipairs(request.results) do found = r.content end
    if not found then
        return { tools = { { name = "bash", input = { command = "cat /mnt/session/outputs/* 2>&1" } } }, usage = usage }
    end
    local criteria = {}
    if task:find("does not apply") then
        return { tools = { { name = "submit_verdict", input = '{"rubric_applies":false,"reason":"there is no such thing","criteria":[]}' } }, usage = usage }
    end
    local list = task:match("as they are to be judged:(.*)")
    for number, word in list:gmatch("(%d+)%. contains ([^\n]+)") do
        local met = found:find(word, 1, true) ~= nil
        criteria[#criteria + 1] = { number = math.tointeger(tonumber(number)), verdict = met and "met" or "not_met", comment = met and "found" or "missing", evidence = "$ cat: " .. found }
    end
    return { tools = { { name = "submit_verdict", input = { rubric_applies = true, criteria = criteria } } }, usage = usage }
end

return function(request)
    if request.purpose == "grader" then return grade(request) end
    local said = aside(request)
    if said then return said end
    local usage = { input_tokens = 100, output_tokens = 10 }
    local content = request.last.content
    local last = type(content) == "table" and content[#content] or { type = "text" }
    local all = json.encode(request.messages)
    local function last_match(pattern)
        local found
        for m in all:gmatch(pattern) do found = m end
        return found
    end
    if last.type == "tool_result" then
        local spent = last_match("spend (%d+)")
        if spent then usage.output_tokens = math.tointeger(tonumber(spent)) end
        return { text = "All criteria are met, of course.", usage = usage }
    end
    if request.text:find("Nothing more is graded", 1, true) then
        local command = last_match('finally: ([^"\\]+)')
        if command then return { tools = { { name = "bash", input = { command = command } } }, usage = usage } end
        return { text = "So be it.", usage = usage }
    end
    if request.text:find("Please revise", 1, true) then
        return { tools = { { name = "bash", input = { command = last_match('then: ([^"\\]+)') or "true" } } }, usage = usage }
    end
    if request.text == "wait" or request.text:find("^wait\nWhen you") then return { text = "late", delay_ms = 600000, usage = usage } end
    local command = request.text:match("run: ([^\n]+)")
    if command then return { tools = { { name = "bash", input = { command = command } } }, usage = usage } end
    return { text = "All criteria are met, of course.", usage = usage }
end

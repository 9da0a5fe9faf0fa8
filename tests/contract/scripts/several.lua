-- Calls five tools at once: one that is harmless, three that need a judge, one that is dangerous.
return function(request)
    if #request.results > 0 then return "done" end
    local tools = {}
    for i, command in ipairs({ "pwd", "uname; true", "uname; true danger", "uname; true doubt", "rm -rf /" }) do
        tools[i] = { name = "bash", input = { command = command } }
    end
    return { tools = tools }
end

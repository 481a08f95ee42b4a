// The scenarios of scenarios.md in C++17. The arguments are an empty directory, and the scenarios to run beside `life`.

#include "conformance.hpp"

int conformance::go(const std::vector<std::string> &chosen) {
    const std::vector<std::pair<std::string, void (conformance::*)()>> scenarios{
        {"life", &conformance::life},
        {"by-name", &conformance::by_name},
        {"run", &conformance::run},
        {"streams", &conformance::streams},
        {"exit-status", &conformance::exit_status},
        {"timeout", &conformance::timeout},
        {"cancel", &conformance::cancel},
        {"terminal", &conformance::terminal},
        {"detached", &conformance::detached},
        {"ports", &conformance::ports},
        {"bytes", &conformance::bytes},
        {"large", &conformance::large},
        {"files", &conformance::files},
        {"transfers", &conformance::transfers},
        {"trees", &conformance::trees},
        {"errors", &conformance::errors},
        {"file-errors", &conformance::file_errors},
        {"use-after-close", &conformance::use_after_close},
        {"threads", &conformance::threads},
        {"fork", &conformance::fork},
        {"callback", &conformance::callback},
        {"fleet", &conformance::fleet},
        {"pool", &conformance::pool},
        {"settings", &conformance::settings_},
        {"doctor", &conformance::doctor},
        {"end", &conformance::end},
    };
    bool all_well = true;
    for (const auto &[name, scenario] : scenarios) {
        if (name != "life" && !chosen.empty() && std::find(chosen.begin(), chosen.end(), name) == chosen.end())
            continue;
        try {
            (this->*scenario)();
            std::cout << "ok " << name << std::endl;
        } catch (const std::exception &error) {
            all_well = false;
            std::cout << "failed " << name << ": " << error.what() << std::endl;
        }
    }
    return all_well ? 0 : 1;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        std::cerr << "usage: conformance DIRECTORY [SCENARIO...]\n";
        return 2;
    }
    try {
        return conformance(argv[1]).go(std::vector<std::string>(argv + 2, argv + argc));
    } catch (const std::exception &error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}

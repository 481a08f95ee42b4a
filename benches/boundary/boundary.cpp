// This library from C++, for benches/peers/boundary.py.
#include <chrono>
#include <functional>
#include <iomanip>
#include <iostream>
#include <map>
#include <sandbox.hpp>
#include <string>

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    try {
        const auto box = sandbox::client::from_env().attach(argv[1]);
        const std::map<std::string, std::function<void()>> works = {
            {"ssh_port", [&] { box.ssh_port(); }},
            {"host_key", [&] { box.host_key(); }},
            {"detached", [&] { (void)box.detached("boundary"); }},
            {"warm", [&] { box.execute("true").check(); }},
        };
        works.at("warm")();
        std::cout << std::fixed << std::setprecision(9);
        std::string name;
        unsigned long count = 0, calls = 0;
        while (std::cin >> name >> count >> calls) {
            const auto &call = works.at(name);
            for (unsigned long run = 0; run < count; run++) {
                const auto began = std::chrono::steady_clock::now();
                for (unsigned long i = 0; i < calls; i++)
                    call();
                const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - began;
                std::cout << (run == 0 ? "{\"result\": [" : ", ") << taken.count();
            }
            std::cout << "]}" << std::endl;
        }
    } catch (const std::exception &error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}

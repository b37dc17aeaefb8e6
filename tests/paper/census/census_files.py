"""Made-up people in the official format of Census-Income (KDD)."""

import gzip
import random
from pathlib import Path

from shelfrank.paper.census.columns import COLUMNS

ADULT = {
    "age": "58",
    "class_of_worker": "Self-employed-not incorporated",
    "industry_code": "4",
    "occupation_code": "34",
    "education": "Some college but no degree",
    "wage_per_hour": "0",
    "enrolled_in_education_last_week": "Not in universe",
    "marital_status": "Divorced",
    "major_industry_code": "Construction",
    "major_occupation_code": "Precision production craft & repair",
    "race": "White",
    "hispanic_origin": "All other",
    "sex": "Male",
    "member_of_a_labor_union": "Not in universe",
    "reason_for_unemployment": "Not in universe",
    "full_or_part_time_employment": "Children or Armed Forces",
    "capital_gains": "0",
    "capital_losses": "0",
    "dividends_from_stocks": "0",
    "tax_filer_status": "Head of household",
    "region_of_previous_residence": "South",
    "state_of_previous_residence": "?",
    "detailed_household_and_family_status": "Householder",
    "detailed_household_summary": "Householder",
    "instance_weight": "1053.55",
    "migration_code_change_in_msa": "MSA to MSA",
    "migration_code_change_in_region": "Same county",
    "migration_code_move_within_region": "Same county",
    "lived_in_this_house_a_year_ago": "No",
    "migration_previous_residence_in_sunbelt": "Yes",
    "num_persons_worked_for_employer": "1",
    "family_members_under_18": "Not in universe",
    "country_of_birth_father": "United-States",
    "country_of_birth_mother": "United-States",
    "country_of_birth_self": "United-States",
    "citizenship": "Native- Born in the United States",
    "own_business_or_self_employed": "0",
    "veterans_questionnaire": "Not in universe",
    "veterans_benefits": "2",
    "weeks_worked_in_year": "52",
    "year": "94",
    "income": "- 50000.",
}


def line(**changes: str) -> str:
    """One person as a line of the file; the changes name columns."""
    assert changes.keys() <= ADULT.keys()
    return ", ".join({**ADULT, **changes}[name] for name in COLUMNS)


def random_people(n: int, seed: int = 0) -> list[dict[str, str]]:
    """People as changes of `ADULT`: education and capital gains make the income, age the marriage."""
    draw = random.Random(seed)
    people = []
    for _ in range(n):
        age, gains = draw.randrange(16, 80), draw.choice([0, 0, 0, 3103, 15024])
        education = draw.choice(["High school graduate", "Bachelors degree(BA AB BS)", "Doctorate degree(PhD EdD)"])
        rich = draw.random() < (0.1 if education == "High school graduate" else 0.4) + (0.4 if gains else 0.0)
        people.append(
            {
                "age": str(age),
                "capital_gains": str(gains),
                "education": education,
                "industry_code": str(draw.randrange(4)),
                "sex": draw.choice(["Male", "Female"]),
                "year": draw.choice(["94", "95"]),
                "weeks_worked_in_year": str(draw.randrange(53)),
                "instance_weight": f"{draw.uniform(30, 2000):.2f}",
                "marital_status": "Never married" if draw.random() < 20 / age else "Divorced",
                "income": "50000+." if rich else "- 50000.",
            }
        )
    return people


def write_part(folder: Path, part: str, people: list[dict[str, str]], zipped: bool = True) -> Path:
    """Writes one official file."""
    folder.mkdir(exist_ok=True)
    text = "".join(line(**person) + "\n" for person in people).encode()
    file = folder / f"census-income.{part}{'.gz' if zipped else ''}"
    file.write_bytes(gzip.compress(text) if zipped else text)
    return file


def write_census(folder: Path, n_train: int = 300, n_test: int = 201, seed: int = 0) -> Path:
    """Writes both official files, and returns their folder."""
    write_part(folder, "data", random_people(n_train, seed))
    write_part(folder, "test", random_people(n_test, seed + 1))
    return folder
